// How long a thread that has run out of work looks for more before it sleeps. Waking a thread that sleeps on an idle
// processor costs tens of microseconds (71 instead of 17.7 for a page fault on the machine of docs/adr/0005), several
// times the work itself; spinning for work that does not come costs a processor. So: spin only while work has been
// coming within the time that a spin may last.
//
// Pure: times are monotonic nanoseconds, given by the caller. One thread.
#pragma once

#include <algorithm>
#include <cstdint>

namespace hecaton {

class AdaptiveSpin {
 public:
  explicit AdaptiveSpin(int64_t longest_ns) : longest_ns_(longest_ns), usual_gap_ns_(2 * longest_ns) {}

  // There is nothing to do now. False: sleep.
  bool idle(int64_t now_ns) {
    if (idle_since_ns_ == 0) idle_since_ns_ = now_ns;
    return usual_gap_ns_ <= longest_ns_ && now_ns - idle_since_ns_ < longest_ns_;
  }
  // Work came.
  void busy(int64_t now_ns) {
    if (idle_since_ns_ == 0) return;
    // A long gap counts as no more than four spins, so that a thread is quick to learn that a burst has begun.
    const int64_t gap = std::min(now_ns - idle_since_ns_, 4 * longest_ns_);
    usual_gap_ns_ += (gap - usual_gap_ns_) / 8;
    idle_since_ns_ = 0;
  }
  bool is_idle() const { return idle_since_ns_ != 0; }

 private:
  const int64_t longest_ns_;
  int64_t usual_gap_ns_;  // exponential average over the last eight or so; starts as if work were rare
  int64_t idle_since_ns_ = 0;
};

}  // namespace hecaton
