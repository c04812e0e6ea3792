// What makes guest memory one over several nodes: the thread of a node that serves its page faults and talks to the
// others. What is to be done is the coherence core's to say (src/coherence); here it is done, in its order.
//
//   a guest thread faults ──userfaultfd──▶ engine ──▶ Core::fault ──┐
//   another node's message ──two lanes───▶ engine ──▶ Core::receive ┴─▶ actions: map, protect, zap here; send to others
//
// Faults of vCPUs and of all other threads of this process are the same.
//
// If a node is lost, everything stops: the guest's mapping is closed, so that whoever touches it sleeps for ever, and
// the other nodes are told. Nothing runs on what may be stale. Whoever owns the vCPUs learns why, and ends the process.
// A node is lost when a connection to it ends, when it is silent for `silence_ms`, or when it breaks the protocol.
// Nodes connect one after the other: from some the first word may come late.
//
// Threads: run() is one thread; stop(), reason() and stats() are for any. Threads that touch guest memory must have
// ended before the CoherentMemory is destroyed, or the process ends with them: one that sleeps in a fault then would go
// on. Nothing on the way of a fault allocates once it is warm.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/adaptive_spin.h"
#include "base/guarded.h"
#include "base/yield_spin.h"
#include "coherence/core.h"
#include "node/coherent_memory.h"
#include "node/peer_link.h"
#include "node/processor_table.h"
#include "os/poller.h"
#include "os/vcpu_neighbour.h"

namespace hecaton::node {

struct StopReason {
  enum class Kind : uint8_t {
    kAsked,     // stop() was called
    kEnded,     // `node` ended as it should
    kLost,      // `node` is lost: `error` says how it showed
    kReported,  // `node` is lost, as node `teller` says
    kBroken,    // this node's own kernel, or core, failed: `error`
  };
  Kind kind = Kind::kAsked;
  NodeId node;
  Error error{ErrorCode::kClosed, 0, ""};
  uint64_t lost_pages = 0;  // of kLost and kReported: pages of this node's range whose newest bytes went with it
  NodeId teller = {};

  std::string describe() const;
};

struct EngineConfig {
  coherence::Config core;
  int64_t silence_ms = 800;
  int64_t first_word_ms = 0;                            // so much longer for who may still connect to others
  bool seek_neighbour = true;                           // sit on the processor of the thread that faults most
  std::function<void(const StopReason&)> on_stop = {};  // from the engine's thread, once
};

struct EngineStats {
  uint64_t faults = 0;
  uint64_t messages_sent = 0;
  uint64_t pages_sent = 0;
  uint64_t bytes_sent = 0;
  uint64_t upgrades = 0;  // grants of the right to write to a copy that was here
  uint64_t zero_pages = 0;
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> create(EngineConfig config, CoherentMemory& memory,
                                                std::vector<PeerLink> links);

  void run();
  void stop();
  std::optional<StopReason> reason() const;
  EngineStats stats() const;

 private:
  Engine(EngineConfig config, CoherentMemory& memory, std::vector<PeerLink> links, Poller poller, WakeFlag wake);
  // These return whether there was something to do.
  bool poll(int64_t timeout_ns);
  bool read_faults();
  bool read_link(PeerLink& link, Lane ready);
  bool run_timer();
  bool take(PeerLink& link, const PeerLink::Arrival& arrival);
  void perform_all(const PeerLink::Arrival* cause);
  Result<void> perform(const coherence::Action& action, const PeerLink::Arrival* cause);
  void send(NodeId to, const coherence::Message& message);
  void watch_for_room(PeerLink& link);
  bool spin();
  bool step_aside();
  void yield();
  void sleep();
  void look_after_peers();
  void lose(NodeId node, Error error);
  void finish(StopReason reason);
  PeerLink& link_to(NodeId node) { return links_[node.value - (node > self_ ? 1u : 0u)]; }

  const NodeId self_;
  const EngineConfig config_;
  CoherentMemory& memory_;
  coherence::Core core_;
  std::vector<PeerLink> links_;                             // to all others, by their numbers
  std::vector<int64_t> heard_ns_;                           // when each of them was heard last
  std::vector<std::array<bool, wire::kLanes>> wants_room_;  // whether the poller waits for room to send
  Poller poller_;
  WakeFlag wake_;
  ProcessorTable processors_;
  VcpuNeighbour neighbour_;
  AdaptiveSpin wire_spin_;  // for an answer
  AdaptiveSpin work_spin_;  // for whatever others ask
  YieldSpin yield_spin_;
  coherence::Actions actions_;
  int64_t now_ns_ = 0;  // of this round
  int64_t timer_ns_ = INT64_MAX;
  int64_t looked_ns_ = 0;
  uint64_t rounds_ = 0;
  bool woke_ = false;  // somebody, in this round
  bool ended_ = false;

  std::atomic<bool> stop_asked_{false};
  Guarded<std::optional<StopReason>> reason_;
  // Written by run() only; others may read them at any time, each for itself.
  struct {
    std::atomic<uint64_t> faults{0}, messages{0}, pages{0}, bytes{0}, upgrades{0}, zero_pages{0};
  } counts_;
};

}  // namespace hecaton::node
