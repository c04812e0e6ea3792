// What a fault server does about pages that the guest's process discards.
#include <algorithm>
#include <utility>

#include "pager/fault_server.h"

namespace hecaton {

// The whole run is marked first and punched in one call; a page in somebody's hands is come back to.
void FaultServer::discard(PageRun run) {
  PageRun begun{run.first, 0};
  bool resident = false;
  for (PageNumber page = run.first; page < run.end(); ++page) {
    std::optional<PageState> before = begin_discard(page);
    if (before) {
      resident = resident || is_resident(*before);
      ++begun.count;
      continue;
    }
    finish_discard(begun, resident);
    pending_discards_.push_back({page, 1});
    waiting_soon_ = true;
    begun = PageRun{page + 1, 0};
    resident = false;
  }
  finish_discard(begun, resident);
  if (state_.any_discards()) backend_.wake_evictor();  // it tells the donors
}

bool FaultServer::discard_waits(PageNumber page) const {
  return std::any_of(pending_discards_.begin(), pending_discards_.end(),
                     [&](const PageRun& run) { return page >= run.first && page < run.end(); });
}

std::optional<PageState> FaultServer::begin_discard(PageNumber page) {
  std::optional<PageState> before = state_.table.begin_discard(page);
  if (!before || *before == PageState::kAbsent) return before;
  state_.counters.discarded.add();
  if (*before == PageState::kRemote) state_.remote_pages.fetch_sub(1);
  if (is_resident(*before)) ++discarded_resident_;
  return before;
}

void FaultServer::finish_discard(PageRun run, bool resident) {
  if (run.count == 0) return;
  if (resident) HEC_CHECK(state_.memory.punch(run).ok());
  for (PageNumber page = run.first; page < run.end(); ++page) {
    state_.table.release(page);
    // After the release: the evictor passes over a busy page, and would take the mark with it.
    if (state_.table.get(page).held) state_.mark_discards(page);
  }
  give_budget(std::exchange(discarded_resident_, 0));  // after the punch: the count is never too low
}

// The page was discarded while its bytes were on their way: they are worth nothing any more.
void FaultServer::drop_discarded(uint32_t index) {
  const PageNumber page = slots_[index].fault.page;
  free_slot(index);
  state_.table.drop_fetch(page);
  state_.mark_discards(page);
  give_budget(1);
  state_.counters.discarded.add();
  state_.memory.wake({page, 1});
  backend_.wake_evictor();  // it tells the donor
}

}  // namespace hecaton
