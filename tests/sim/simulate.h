// Runs a trace against an eviction policy, on the real page table and the real prefetcher, and adds up what the kernel
// would charge. The charges (microseconds) are those measured for docs/adr/0003-eviction-policy.md.
#pragma once

#include <string>

#include "trace.h"

namespace hecaton::sim {

struct Costs {
  double miss = 17;                               // a fault, answered over a wire that takes no time
  double protect_fault = 17;                      // the first write to a clean page
  double protect_call = 13, protect_page = 0.07;  // only for runs with dirty pages; pages of the whole span
  double punch_call = 16, punch_page = 0.7;
  double sent_page = 2;
  double prefetched_page = 1;
};

struct Outcome {
  uint64_t accesses = 0, misses = 0, protect_faults = 0, prefetched = 0;
  uint64_t evicted = 0, sent = 0, runs = 0;
  double evict_us = 0;  // protecting, sending, punching
  double total_us = 0;  // that, and the faults

  double miss_ratio() const { return static_cast<double>(misses) / static_cast<double>(accesses); }
  double pages_per_run() const { return runs == 0 ? 0 : static_cast<double>(evicted) / static_cast<double>(runs); }
  double evict_us_per_page() const { return evicted == 0 ? 0 : evict_us / static_cast<double>(evicted); }
  double us_per_access() const { return total_us / static_cast<double>(accesses); }
};

Outcome simulate(const Trace& trace, const std::string& policy, const Costs& costs = {});
// The fewest misses that any policy can have without prefetching: what is needed last leaves (Belady).
Outcome simulate_optimum(const Trace& trace);

}  // namespace hecaton::sim
