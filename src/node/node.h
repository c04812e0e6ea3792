// A node of an aggregate VM, as far as its memory goes: CoherentMemory, connections to the other nodes, and the thread
// that serves them.
//
// start() locks this process's memory, later mappings included, as they are touched (lock_process_memory()).
//
// Threads: any may call; start() and the destructor by one. See engine.h for who may touch guest memory until when.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "node/engine.h"
#include "node/mesh.h"

namespace hecaton::node {

struct NodeConfig {
  NodeId self;
  std::vector<NodeUrl> nodes;   // where each listens
  std::vector<uint64_t> pages;  // of guest memory at each, in the order of guest addresses
  uint64_t vm = 1;
  std::array<std::byte, 32> secret{};  // known to the VM's nodes only: what they prove to each other
  size_t processors = 4;               // threads that touch guest memory
  int64_t hold_ns = 100'000;
  int64_t silence_ms = 800;
  int64_t start_ms = 30'000;  // how long to wait for the other nodes
  bool seek_neighbour = true;
  std::optional<bool> protected_map = {};  // as the kernel can, unless forced
  Credentials credentials = {};
  std::shared_ptr<const TlsContext> trust = nullptr;
  bool insecure = false;
  std::function<void(const StopReason&)> on_stop = {};
};

// The same for the same division of guest memory. No secret: two nodes that were told different things must notice.
uint64_t digest_of(const std::vector<uint64_t>& pages);

class Node {
 public:
  // `listener`: at nodes[self]; closed when all nodes are connected, so that who calls later is refused at once. Waits
  // for all nodes. On error `problem`, if given, may say more: see connect_mesh().
  static Result<std::unique_ptr<Node>> start(const NodeConfig& config, TcpListener listener,
                                             std::string* problem = nullptr);
  ~Node();  // stops

  std::byte* memory() const { return memory_.guest(); }
  uint64_t bytes() const { return memory_.pages() * kPageBytes; }
  EngineStats stats() const { return engine_->stats(); }
  // Why guest memory stopped; nothing while it is served.
  std::optional<StopReason> reason() const { return engine_->reason(); }
  void stop();  // and waits until it has
  const CoherentMemory& coherent_memory() const { return memory_; }

 private:
  explicit Node(CoherentMemory memory) : memory_(std::move(memory)) {}
  CoherentMemory memory_;
  std::unique_ptr<Engine> engine_;
  std::thread thread_;
};

}  // namespace hecaton::node
