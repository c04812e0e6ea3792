// Where the prefetch thread reads from, and what becomes of its requests when donors fail: its connections to donors,
// without its queues and its sleep. PrefetchLoop drives it, and so does the simulation of tests/sim/paging.
//
// One thread.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <vector>

#include "pager/loop_context.h"
#include "pager/prefetch_worker.h"
#include "store/silence_watch.h"

namespace hecaton {

class PrefetchRoutes final : public PrefetchBackend {
 public:
  struct Hooks {
    std::function<void()> wake_fault_threads, wake_evictor;
  };
  PrefetchRoutes(LoopContext context, Hooks hooks);
  PrefetchRoutes(const PrefetchRoutes&) = delete;
  PrefetchRoutes& operator=(const PrefetchRoutes&) = delete;

  PrefetchWorker& worker() { return worker_; }
  const PrefetchWorker& worker() const { return worker_; }
  bool any_owed() const { return watch_.any_owed(); }

  // Donors have changed, or a connection has ended: see_changes() comes before anything else.
  bool changes_due() const { return context_.pool.states().changes() != seen_changes_ || !ended_.empty(); }
  void see_changes();
  // Reads what that donor's connection has to say.
  void receive(size_t donor);
  void check_patience();

  std::optional<size_t> donor_of(ExtentNumber extent) override;
  bool send_read(uint64_t request, size_t donor, std::span<const PageNumber> pages) override;
  void wake_fault_threads() override { hooks_.wake_fault_threads(); }
  void wake_evictor() override { hooks_.wake_evictor(); }

 private:
  Result<void> take_reply(size_t donor, const wire::FrameHeader& header, std::span<const std::byte> body);
  void connection_ended(size_t donor, const Error& error);
  void give_up(size_t donor);
  void give_up_request(uint64_t request);
  bool is_late(uint64_t request, int64_t now_ns) const;
  std::optional<size_t> choose_donor(ExtentNumber extent, std::optional<size_t> avoid) const;

  struct Asked {
    uint32_t generation = 0;
    size_t donor = 0;
    ExtentNumber extent;
    int64_t at_ns = 0;
    bool waits = false;
  };
  LoopContext context_;
  const Hooks hooks_;
  SilenceWatch watch_;
  PrefetchWorker worker_;
  std::array<Asked, PrefetchWorker::kRequests> asked_;
  std::vector<size_t> ended_;  // donors whose connection has ended
  int64_t next_look_ns_ = 0;   // for late answers
  uint64_t seen_changes_ = 0;
};

}  // namespace hecaton
