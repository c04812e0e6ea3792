// What a new pager does first after another has died: makes a consistent state of what is left, which is the page
// words, the memory file and the donors. docs/adr/0011-takeover.md goes through all points where the other can have
// died.
//
// Before any other thread of the pager runs; the guest may run, and its process may discard. Can die in the middle and
// be begun again.
#pragma once

#include <cstdint>

#include "pager/pager_state.h"

namespace hecaton {

struct Recovered {
  uint64_t resident = 0, remote = 0;  // pages
  uint64_t unsettled = 0;             // that were between two states
  uint64_t punched = 0;               // that were here although the table says that they are elsewhere
};

// Settles every page, drops what should not be here, counts budget and remote pages anew, and wakes everybody who
// waits: events that the dead pager has read are not told again.
Recovered recover(PagerState& state);

}  // namespace hecaton
