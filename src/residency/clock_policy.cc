#include "residency/clock_policy.h"

namespace hecaton {

bool ClockPolicy::may_leave(PageNumber page) {
  PageStatus status = table_.get(page);
  if (status.busy || (status.state != PageState::kClean && status.state != PageState::kDirty)) return false;
  return !table_.clear_referenced(page);
}

PageRun ClockPolicy::next_victims() {
  const uint64_t pages = table_.pages();
  for (uint64_t looked = 0; looked < pages;) {
    if (hand_.value >= pages) hand_ = PageNumber(0);
    PageRun run{hand_, 0};
    const PageNumber extent_end(std::min(pages, (extent_of(hand_).value + 1) * kPagesPerExtent));
    while (run.end() < extent_end && run.count < kMaxRun && may_leave(run.end())) ++run.count;
    // The page that ended the run was looked at as well (and lost its second chance, if it had one).
    uint64_t passed = run.end() < extent_end ? run.count + 1 : run.count;
    hand_ = hand_ + passed;
    looked += passed;
    if (run.count > 0) return run;
  }
  return PageRun{};
}

}  // namespace hecaton
