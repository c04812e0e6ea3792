// The checks of the litmus tests: how often each outcome was seen, and whether one was that x86 forbids.
#pragma once

#include <cstdint>

#include "programs.h"

namespace hecaton::microguest {

// Of all nodes together: programs.S has a word in a page for each.
inline constexpr uint64_t kRunsPerRound = 512;

Verdict check_message_passing(const Outcome& outcome);
Verdict check_store_buffering(const Outcome& outcome);
Verdict check_iriw(const Outcome& outcome);

}  // namespace hecaton::microguest
