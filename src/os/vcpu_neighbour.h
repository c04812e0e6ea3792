// Keeps the fault thread on the processor of the thread whose faults it serves. That one sleeps while its fault is
// served, so its processor is free, warm and awake; a fault then costs two switches on one processor (7 µs on the
// machine of docs/adr/0005) instead of waking another and being woken by it (17 µs if it spins, 71 if it sleeps).
// If several threads share the faults there is no one place, and the kernel decides.
//
// One thread: the one that it moves.
#pragma once

#include <cstdint>
#include <optional>

#include "os/scheduling.h"

namespace hecaton {

class VcpuNeighbour {
 public:
  // A fault of this thread (as the kernel numbers them; 0: unknown) is being served.
  void saw(uint32_t thread) {
    ++faults_;
    if (thread == candidate_) {
      ++votes_;
    } else if (votes_ == 0) {
      candidate_ = thread;
      votes_ = 1;
    } else {
      --votes_;
    }
  }
  // Between faults: moves if it is time to look, and there is reason to.
  void settle(int64_t now_ns) {
    if (faults_ == 0 || now_ns < next_look_ns_) return;
    look(now_ns);
  }

 private:
  static constexpr int64_t kLookEveryNs = 5'000'000;
  void look(int64_t now_ns);

  LastProcessor last_processor_;
  // The majority vote of Boyer and Moore ("MJRTY", 1981): the candidate has most faults if any thread does, and `votes`
  // is at least its lead over all others together.
  uint32_t candidate_ = 0;
  uint64_t votes_ = 0, faults_ = 0;
  int64_t next_look_ns_ = 0;
  std::optional<unsigned> seat_;
};

}  // namespace hecaton
