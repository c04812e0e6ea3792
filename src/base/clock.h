// Monotonic time in nanoseconds, and deadlines made of it.
#pragma once

#include <algorithm>
#include <climits>
#include <cstdint>
#include <ctime>

namespace hecaton {

inline int64_t monotonic_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

// A moment after which waiting stops.
class Deadline {
 public:
  static Deadline after_ms(int64_t ms) { return Deadline(monotonic_ns() + ms * 1'000'000); }

  // For one that is yet to be set; reads no clock.
  static Deadline never() { return Deadline(INT64_MAX); }
  bool is_never() const { return at_ns_ == INT64_MAX; }

  bool passed() const { return monotonic_ns() >= at_ns_; }
  // For poll(2): 0 when passed, rounded up otherwise, and no more than it can wait.
  int remaining_ms() const {
    int64_t left = at_ns_ - monotonic_ns();
    return left <= 0 ? 0 : static_cast<int>(std::min<int64_t>((left + 999'999) / 1'000'000, INT_MAX));
  }

 private:
  explicit Deadline(int64_t at_ns) : at_ns_(at_ns) {}
  int64_t at_ns_;
};

}  // namespace hecaton
