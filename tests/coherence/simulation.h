// Larger machines than explore.h can visit, run at random from a seed: messages and fault events take their time,
// events come twice or late, processors run instructions that need several pages at once, and a node may die.
//
// Each byte that matters is a number: a write makes one that never was, and every read must see the last one that was
// written, wherever that happened. Time is simulated.
#pragma once

#include <cstdint>
#include <string>

namespace hecaton::coherence::check {

struct SimulationOptions {
  uint64_t seed = 1;
  size_t nodes = 4;
  size_t processors_of_a_node = 2;
  uint64_t pages = 64;
  uint64_t hot_pages = 8;       // where every second access goes
  uint64_t instructions = 500;  // of each processor
  size_t most_needs = 4;        // pages that an instruction needs at once
  int64_t hold_ns = 100'000;
  int64_t message_ns = 20'000;  // at least, and up to four times that
  bool opposite_ways = false;   // each instruction writes pages 0 and 1; at odd nodes the other way round
  bool node_dies = false;       // one of them, in the middle
};

struct SimulationReport {
  std::string breach;  // empty: none
  uint64_t executed = 0;
  uint64_t faults = 0;
  uint64_t messages = 0;
  uint64_t pages_sent = 0;
  uint64_t failed = 0;          // processors that were told of a loss
  int64_t longest_wait_ns = 0;  // from an instruction's first fault to its end
  int64_t time_ns = 0;
};

SimulationReport simulate(const SimulationOptions& options);

}  // namespace hecaton::coherence::check
