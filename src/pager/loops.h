// The threads of a pager: a fault thread for each shard, one that prefetches, one that evicts. Each owns its logic
// object and its connection to every donor. Fault threads share no lock: each has its own userfaultfd, its own
// prefetcher, and its own queue to the prefetch thread.
//
// Stopping: raise `stop`, nudge every loop, join. A loop ends by itself when memory is lost.
#pragma once

#include <array>
#include <atomic>
#include <string>
#include <vector>

#include "base/adaptive_spin.h"
#include "base/guarded.h"
#include "os/poller.h"
#include "os/userfaultfd.h"
#include "os/vcpu_neighbour.h"
#include "pager/copy_keeper.h"
#include "pager/prefetch_routes.h"
#include "pager/read_routes.h"

namespace hecaton {

class EvictLoop;
class PrefetchLoop;

// Lets other threads get a sleeping loop's attention, and costs them nothing while it is awake.
class Nudge {
 public:
  static Result<Nudge> create();
  void operator()() {
    if (asleep_->exchange(false)) flag_.raise();
  }
  void always() { flag_.raise(); }
  // The loop: announce sleep, look once more whether there is work, then wait on fd().
  void about_to_sleep() { asleep_->store(true); }
  void awake() {
    asleep_->store(false);
    flag_.clear();
  }
  int fd() const { return flag_.fd(); }

 private:
  explicit Nudge(WakeFlag flag) : flag_(std::move(flag)), asleep_(std::make_unique<std::atomic<bool>>(false)) {}
  WakeFlag flag_;
  std::unique_ptr<std::atomic<bool>> asleep_;
};

// Shows from outside that a loop goes round.
class Heartbeat {
 public:
  // By the loop's thread, each time round.
  void beat() {
    beats_.store(beats_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }  // a sign of life
  uint64_t beats() const { return beats_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> beats_{0};
};

// Streams on their way from one shard's prefetcher to another's. One thread puts, one takes; no lock.
class StreamChute {
 public:
  // If it is full the stream is dropped: it must then be found anew, where it goes on.
  void put(const Prefetcher::Stream& stream) {
    const uint32_t at = put_.load(std::memory_order_relaxed);  // written by this thread only
    if (at - taken_.load() == streams_.size()) return;
    streams_[at % streams_.size()] = stream;
    put_.store(at + 1);
  }
  bool take(Prefetcher::Stream* stream) {
    const uint32_t at = taken_.load(std::memory_order_relaxed);  // written by this thread only
    if (at == put_.load()) return false;
    *stream = streams_[at % streams_.size()];
    taken_.store(at + 1);
    return true;
  }

 private:
  std::array<Prefetcher::Stream, 8> streams_;
  std::atomic<uint32_t> put_{0}, taken_{0};
};

class FaultLoop final : public FaultBackend {
 public:
  // `uffd` has the faults of the stripes of `shard`; `base` is where the region begins.
  static Result<std::unique_ptr<FaultLoop>> create(LoopContext context, unsigned shard, const Userfaultfd& uffd,
                                                   RemoteAddress base, Prefetcher prefetcher, EvictLoop& evict,
                                                   PrefetchLoop& prefetch);
  void run();
  Nudge& nudge() { return nudge_; }
  const Heartbeat& heart() const { return heart_; }

  // All fault loops, by their shards. Before any of them runs.
  void set_peers(std::vector<FaultLoop*> peers) { peers_ = std::move(peers); }

  bool start_read(PageNumber page, uint32_t slot, bool again) override { return routes_.start_read(page, slot, again); }
  bool wait_for_copy(PageNumber page, uint32_t slot) override { return routes_.wait_for_copy(page, slot); }
  std::string answering_donor() override { return routes_.answering_donor(); }
  void prefetch(const PrefetchWindow& window) override;
  void hand_stream(unsigned shard, const Prefetcher::Stream& stream) override;
  void wake_evictor() override;
  void wake_fault_threads() override;
  void report_loss(LossReport report) override;

 private:
  FaultLoop(LoopContext context, unsigned shard, const Userfaultfd& uffd, RemoteAddress base, Prefetcher prefetcher,
            EvictLoop& evict, PrefetchLoop& prefetch, Poller poller, Nudge nudge);
  void receive_stream(unsigned from, const Prefetcher::Stream& stream);  // by the thread of that shard
  void adopt_streams();
  bool read_faults();
  bool spin(uint64_t round);
  void sleep(int timeout_ms);

  LoopContext context_;
  const unsigned shard_;
  const Userfaultfd& uffd_;
  const RemoteAddress base_;
  FaultServer server_;
  EvictLoop& evict_;
  PrefetchLoop& prefetch_;
  Poller poller_;
  Nudge nudge_;
  ReadRoutes routes_;
  std::vector<FaultLoop*> peers_;
  std::vector<StreamChute> streams_;  // from each shard
  std::atomic<bool> streams_came_{false};
  Heartbeat heart_;
  VcpuNeighbour neighbour_;
  AdaptiveSpin fault_spin_, wire_spin_;  // for the next fault; for an answer
};

class EvictLoop final {
 public:
  static Result<std::unique_ptr<EvictLoop>> create(LoopContext context);
  void run();
  Nudge& nudge() { return nudge_; }
  const Heartbeat& heart() const { return heart_; }
  void set_fault_nudges(std::vector<Nudge*> nudges) { fault_nudges_ = std::move(nudges); }

  // Bytes that were copied to bring protection back. Any thread.
  uint64_t reprotected_bytes() const { return keeper_.repairer().copied_bytes(); }

 private:
  EvictLoop(LoopContext context, Poller poller, Nudge nudge);
  bool start_batches();
  void read_replies(int64_t timeout_ns);
  bool idle() const;

  LoopContext context_;
  CopyKeeper keeper_;
  Poller poller_;
  Nudge nudge_;
  AdaptiveSpin spin_;  // for acknowledgements
  Heartbeat heart_;
  std::vector<Nudge*> fault_nudges_;
  std::array<epoll_event, 64> events_;
};

class PrefetchLoop final {
 public:
  static Result<std::unique_ptr<PrefetchLoop>> create(LoopContext context);
  void run();
  Nudge& nudge() { return nudge_; }
  const Heartbeat& heart() const { return heart_; }
  // From the fault thread of `shard`; a window that finds no place in its queue is dropped.
  void offer(unsigned shard, const PrefetchWindow& window);

  void set_nudges(std::vector<Nudge*> fault, Nudge* evict) {
    fault_nudges_ = std::move(fault);
    evict_nudge_ = evict;
  }

 private:
  PrefetchLoop(LoopContext context, Poller poller, Nudge nudge);
  bool take(PrefetchWindow* window);
  bool queues_empty() const;
  bool start_windows();
  bool read_replies(int timeout_ms);
  void sleep();

  struct Queue {
    std::array<PrefetchWindow, 32> windows;
    size_t first = 0, count = 0;
  };
  LoopContext context_;
  PrefetchRoutes routes_;
  Poller poller_;
  Nudge nudge_;
  AdaptiveSpin spin_;
  Heartbeat heart_;
  std::vector<Nudge*> fault_nudges_;
  Nudge* evict_nudge_ = nullptr;
  std::vector<Guarded<Queue>> queues_;  // of each shard
  size_t next_queue_ = 0;               // to look into first: they take turns
  std::array<epoll_event, 64> events_;
};

}  // namespace hecaton
