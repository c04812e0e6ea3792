#include "pager/recovery.h"

#include <algorithm>

namespace hecaton {
namespace {

class Recovery {
 public:
  explicit Recovery(PagerState& state) : state_(state) {}

  Recovered run() {
    const PageNumber end(state_.table.pages());
    for (PageNumber page(0); page < end;) {
      const PageRun found = state_.memory.next_present(page);
      const PageNumber first = found.count == 0 ? end : std::min(found.first, end);
      const PageNumber behind = found.count == 0 ? end : std::min(found.end(), end);
      for (; page < first; ++page) settle(page, false);
      for (; page < behind; ++page) settle(page, true);
    }
    punch();
    state_.budget.begin_with(recovered_.resident);
    state_.remote_pages.store(static_cast<int64_t>(recovered_.remote));
    state_.memory.wake({PageNumber(0), state_.table.pages()});
    return recovered_;
  }

 private:
  void settle(PageNumber page, bool present) {
    const PageStatus before = state_.table.get(page);
    if (before.state == PageState::kAbsent && !before.busy && !before.held && !present) return;  // most of a young VM
    const bool elsewhere = state_.table.recover(page, present);
    const PageStatus now = state_.table.get(page);
    recovered_.unsettled += before.busy || before.state != now.state;
    recovered_.resident += now.resident();
    recovered_.remote += now.state == PageState::kRemote;
    if (now.state == PageState::kClean) state_.settle_clean(page);
    if (now.state == PageState::kAbsent && now.held) state_.mark_discards(page);
    if (elsewhere) drop(page);
  }

  // Neighbours go in one call.
  void drop(PageNumber page) {
    if (dropping_.count > 0 && dropping_.end() != page) punch();
    if (dropping_.count == 0) dropping_.first = page;
    ++dropping_.count;
  }

  void punch() {
    if (dropping_.count == 0) return;
    HEC_CHECK(state_.memory.punch(dropping_).ok());
    recovered_.punched += dropping_.count;
    dropping_.count = 0;
  }

  PagerState& state_;
  Recovered recovered_;
  PageRun dropping_{PageNumber(0), 0};
};

}  // namespace

Recovered recover(PagerState& state) {
  return Recovery(state).run();
}

}  // namespace hecaton
