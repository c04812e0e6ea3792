#include "residency/clock_policy.h"

namespace hecaton {

bool ClockPolicy::may_leave(PageNumber page) {
  PageStatus status = table_.get(page);
  if (status.busy || (status.state != PageState::kClean && status.state != PageState::kDirty)) return false;
  return !table_.clear_referenced(page);
}

bool ClockPolicy::is_gap(PageNumber page) {
  PageStatus status = table_.get(page);
  return !status.busy && (status.state == PageState::kAbsent || status.state == PageState::kRemote);
}

PageRun ClockPolicy::next_victims() {
  const uint64_t pages = table_.pages();
  for (uint64_t looked = 0; looked < pages;) {
    if (hand_.value >= pages) hand_ = PageNumber(0);
    PageRun run{hand_, 0};
    const PageNumber extent_end(std::min(pages, (extent_of(hand_).value + 1) * kPagesPerExtent));
    PageNumber at = hand_;
    for (; at < extent_end; ++at) {
      if (may_leave(at)) {
        if (run.count == 0) run.first = at;
        run.count = at - run.first + 1;
      } else if (run.count > 0 && !is_gap(at)) {
        break;
      }
    }
    uint64_t passed = std::max<uint64_t>(1, at - hand_);
    hand_ = hand_ + passed;
    looked += passed;
    if (run.count > 0) return run;
  }
  return PageRun{};
}

}  // namespace hecaton
