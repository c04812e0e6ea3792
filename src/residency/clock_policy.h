// Which pages leave next: CLOCK over the table, in runs. A hand sweeps the region; a page that was touched since the
// hand last passed gets a second chance, the others leave in runs of neighbours, because the kernel's price of an
// eviction is per call (a single page costs about thirty times as much as a page in a run of 64).
// Pure. One thread.
#pragma once

#include "base/units.h"
#include "residency/page_table.h"

namespace hecaton {

class ClockPolicy {
 public:
  static constexpr uint64_t kMaxRun = kPagesPerExtent;

  explicit ClockPolicy(PageTable& table) : table_(table) {}

  // Moves the hand to the next run of pages that may leave: resident, settled, not referenced; within one extent.
  // Empty if a whole turn of the hand finds none (then every page was given its second chance: ask again).
  PageRun next_victims();

 private:
  bool may_leave(PageNumber page);
  bool is_gap(PageNumber page);
  PageTable& table_;
  PageNumber hand_;
};

}  // namespace hecaton
