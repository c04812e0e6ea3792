// What several nodes of one VM do in turn: one access at a time, by the node whose turn it is, each timed. Nodes are
// processes on this machine, each with one thread that touches guest memory, on a processor of its own if there are
// enough: then whoever waits for its turn looks for it, and yields. Otherwise it sleeps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace hecaton::bench {

struct NodeStep {
  uint8_t node;
  bool writes;
  uint64_t page;
};

struct NodeScript {
  std::vector<uint64_t> pages;  // of guest memory at each node
  std::vector<NodeStep> steps;
};

struct ScriptResult {
  std::vector<int64_t> took_ns;  // of each step
  uint64_t wrong = 0;            // reads that did not find what was written last
  uint64_t pages_sent = 0, bytes_sent = 0, messages_sent = 0, upgrades = 0;  // of all nodes
};

// On error `problem` says it in words for the user.
Result<ScriptResult> run_script(const NodeScript& script, std::string* problem);

}  // namespace hecaton::bench
