// Visits every state of a World that can be reached, and looks for breaches of what must always hold, and of what must
// happen at last:
//   no deadlock     a state in which nothing can happen has no processor that is not done
//   no starvation   there is no endless run in which a processor never executes its instruction, though messages
//                   arrive, processors run and time passes, each at last (weak fairness)
// The latter by the strongly connected components of the graph without the processor's own completions: one in which
// each class of moves is made, or is somewhere impossible, is such a run.
#pragma once

#include <cstdint>
#include <string>

#include "world.h"

namespace hecaton::coherence::check {

struct Report {
  std::string breach;  // empty: none
  std::string trace;   // how it comes about
  uint64_t states = 0;
  uint64_t moves = 0;
  bool complete = true;  // false: more than `most_states`
};

Report explore(const Machine& machine, uint64_t most_states = UINT32_MAX);

}  // namespace hecaton::coherence::check
