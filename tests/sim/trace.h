// Memory accesses, page by page, made from a seed: what the simulator of eviction policies runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hecaton::sim {

struct Access {
  uint32_t page : 31;
  uint32_t write : 1;
};

struct Trace {
  std::string name;
  uint64_t pages = 0;   // of the region
  uint64_t budget = 0;  // pages that may be resident
  size_t warm_up = 0;   // accesses at the start that are run and not counted
  bool prefetch = false;
  std::vector<Access> accesses;
};

// The names of all traces, in the order of the report.
const std::vector<std::string>& trace_names();
// `scale` divides sizes and lengths, for tests.
Trace make_trace(const std::string& name, uint64_t seed, uint64_t scale = 1);

}  // namespace hecaton::sim
