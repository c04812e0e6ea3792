// The nodes of a VM as processes of their own on this machine, for tests and measurements: forked from this one while
// it has no other thread.
//
//   parent   fork ── all connected ── go ── all done ── look ── end
//   node     connect ────▲  ▼── body ─────▲   ▼── node 0 copies guest memory ── stop
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "node/node.h"

namespace hecaton::node {

inline constexpr size_t kMostProcesses = 8;
inline constexpr size_t kLookedAtPages = 16;  // of guest memory, from its start
inline constexpr int kExitStopped = 4;        // a node whose guest memory stopped before its time
inline constexpr int kExitSkipped = 77;

// In memory that all of them share with the parent.
struct Shared {
  struct OfNode {
    std::atomic<uint64_t> result{0};  // of its body
    std::atomic<int64_t> stopped_ns{0};
    std::array<char, 256> why{};
    EngineStats stats;
  };
  std::array<OfNode, kMostProcesses> nodes;
  std::array<uint64_t, kLookedAtPages * kPageBytes / 8> memory{};
};

class Processes {
 public:
  // Runs in each node's process: between go and done.
  using Body = std::function<Result<uint64_t>(Node& node, size_t number)>;

  // `config`: but for `self` and `nodes`. Error: a node did not come; `problem`, if given, says which and why;
  // kUnsupported: this machine cannot run nodes, or not for this user.
  static Result<std::unique_ptr<Processes>> start(NodeConfig config, const Body& body, std::string* problem = nullptr);
  ~Processes();  // kills what is left

  void go();
  // Waits until all have done their part; false as soon as one of them has ended instead, or if it takes too long.
  bool all_done(Deadline by);
  // Node 0 copies guest memory to shared().memory; then all end. False: a node did not end well.
  bool look_and_end(Deadline by);
  void kill(size_t node);
  // How node `node` ended, as waitpid() tells, or -1 if it has not by then.
  int status_of(size_t node, Deadline by);
  // Whether one ended because this machine cannot run it, which makes others end too. Waits for the end of all.
  bool skipped(Deadline by);
  // Which nodes have ended, and why; empty if none. If one has, waits for the others, some seconds at most.
  std::string ends();

  Shared& shared() { return *shared_; }

 private:
  struct Child {
    pid_t pid = -1;
    OwnedFd line;  // one byte for each step
    int status = -1;
  };
  Processes() = default;
  Result<void> connect(NodeConfig config, const Body& body, std::string* problem);
  Result<void> fork_node(NodeConfig& config, size_t number, std::vector<TcpListener>& listeners, const Body& body);
  Error not_connected(std::string* problem);
  std::string end_of(size_t node);  // empty: it has not ended
  bool hear(Child& child, char step, Deadline by);
  // False as soon as one of them has ended instead.
  bool hear_all(char step, Deadline by);
  void say(Child& child, char step);

  Shared* shared_ = nullptr;
  std::vector<Child> children_;
};

}  // namespace hecaton::node
