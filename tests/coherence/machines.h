// The machines that are explored.
#pragma once

#include <vector>

#include "world.h"

namespace hecaton::coherence::check {

// Visited at each run of the tests: some seconds.
std::vector<Machine> small_machines();
// Beside them, by coherence_check and scripts/soak: minutes.
std::vector<Machine> large_machines();

}  // namespace hecaton::coherence::check
