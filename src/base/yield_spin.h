// Whether a thread may look for work over and over with sched_yield() in between, on a processor that others may want.
//
// While nobody does, a yield returns at once. Beside a busy thread it returns when that one's slice is over, in which
// nothing is looked for: milliseconds, where a sleeping thread would have been woken within tens of microseconds. So a
// slow yield stops it for a while, and for twice as long each time; a long row of quick ones makes up for that.
//
// Pure: times are monotonic nanoseconds, given by the caller. One thread.
#pragma once

#include <algorithm>
#include <cstdint>

namespace hecaton {

class YieldSpin {
 public:
  // Longer than another thread of ours works at a stretch, and shorter than any scheduler's slice.
  static constexpr int64_t kSlowNs = 300'000;
  static constexpr int64_t kShortestPauseNs = 20'000'000, kLongestPauseNs = 5'000'000'000;
  static constexpr uint32_t kManyQuick = 10'000;

  bool may(int64_t now_ns) const { return now_ns >= paused_until_ns_; }
  void yielded(int64_t took_ns, int64_t now_ns) {
    if (took_ns < kSlowNs) {
      if (++quick_ >= kManyQuick) pause_ns_ = kShortestPauseNs;
      return;
    }
    quick_ = 0;
    paused_until_ns_ = now_ns + pause_ns_;
    pause_ns_ = std::min(2 * pause_ns_, kLongestPauseNs);
  }

 private:
  int64_t paused_until_ns_ = 0;
  int64_t pause_ns_ = kShortestPauseNs;
  uint32_t quick_ = 0;
};

}  // namespace hecaton
