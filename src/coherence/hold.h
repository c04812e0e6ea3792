// How long a node may keep a page that others want: long enough for the instruction that needs it.
//
// An instruction can need many pages at once: code, stack, operands across page ends, entries of page tables. Its
// processor faults on one after the other, and each must still be there when the last has come. Two rules:
//
//  1. A processor that runs keeps the pages that it gathered for `hold_ns` after the last of them came.
//  2. One that waits for a page gives what it gathered, so that a page is never kept while nobody uses it. But if it
//     has to ask again for a page that it gathered, it struggles: from then on, while it waits for a page, it keeps
//     those gathered that have lower numbers, for as long as it takes.
//
// So a page is only kept while one with a higher number is awaited: there is no circle of waiting. And each instruction
// gets on: once it has its lowest page, it keeps it until it is done; then the next lowest, and so on.
//
// When a processor ran for hold_ns without a fault, its instruction is over, and it begins to gather anew.
//
// Pure; one thread at a time, as its Core.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/units.h"

namespace hecaton::coherence {

using ProcessorNumber = Number<struct ProcessorTag>;  // of a node: its vCPUs, and whatever else touches guest memory

class Hold {
 public:
  // The most pages that one instruction can need, with the tables that lead to them.
  static constexpr size_t kMostGathered = 32;
  static constexpr int64_t kUntilItCame = INT64_MAX;

  Hold(size_t processors, int64_t hold_ns) : hold_ns_(hold_ns), processors_(processors) {}

  size_t processors() const { return processors_.size(); }
  // `processor` waits for `page`. `missing`: the page is not here, not even to be read.
  void fault(ProcessorNumber processor, PageNumber page, bool missing, int64_t now_ns);
  // The page was mapped: those that waited for it run.
  void came(PageNumber page, int64_t now_ns);
  // The page will not come: those that waited for it wait no more, and keep nothing.
  void failed(PageNumber page);
  // Until when the page is kept: not later than `now_ns` if it is not, kUntilItCame if it hangs on another page's
  // coming.
  int64_t kept_until(PageNumber page, int64_t now_ns) const;

  // For tests that compare states: appends all that matters for what happens next.
  void append_state(int64_t now_ns, std::vector<uint64_t>& out) const;

 private:
  struct Processor {
    bool waits = false;
    bool struggles = false;
    uint8_t count = 0;
    uint8_t oldest = 0;  // where the next goes, once all places are taken
    PageNumber awaited;
    int64_t until_ns = INT64_MIN;
    std::array<PageNumber, kMostGathered> gathered;

    bool has(PageNumber page) const;
    void add(PageNumber page);
  };

  int64_t hold_ns_;
  std::vector<Processor> processors_;
};

}  // namespace hecaton::coherence
