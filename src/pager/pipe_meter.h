// How long the way to the donors and back is busy with a write. Its clock stands still while the writing thread works
// by itself, so that what is slow on this side is not blamed on the way; and of two writes that overlap, the second is
// timed from the answer to the first.
//
// One thread; times are monotonic nanoseconds.
#pragma once

#include <algorithm>
#include <cstdint>

namespace hecaton {

class PipeMeter {
 public:
  void work_begins(int64_t now_ns) { since_ns_ = now_ns; }
  void work_ends(int64_t now_ns) { worked_ns_ += now_ns - since_ns_; }
  // Its clock, while not working.
  int64_t at(int64_t now_ns) const { return now_ns - worked_ns_; }
  // An answer to what was sent at `sent` on this clock: how long the pipe was busy with it.
  int64_t answered(int64_t sent, int64_t now_ns) {
    const int64_t began = std::max(sent, last_answer_);
    last_answer_ = at(now_ns);
    return last_answer_ - began;
  }

 private:
  int64_t since_ns_ = 0, worked_ns_ = 0, last_answer_ = 0;
};

}  // namespace hecaton
