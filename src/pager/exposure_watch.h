// Notices memory that has fewer copies than protection asks for, and does not get them: no room at donors, a full disk.
// While copies are being made it is silent, for that is what happens after each loss of a donor.
//
// Pure. One thread. Times are monotonic nanoseconds, given by the caller.
#pragma once

#include <cstdint>

namespace hecaton {

class ExposureWatch {
 public:
  // Exposed memory that has not become less for this long is told.
  static constexpr int64_t kStuckNs = 5'000'000'000;
  enum class Tell : uint8_t { kNothing, kExposed, kProtectedAgain };

  Tell update(uint64_t exposed_bytes, int64_t now_ns) {
    if (exposed_bytes == 0) {
      const bool was_told = told_bytes_ > 0;
      *this = ExposureWatch();
      return was_told ? Tell::kProtectedAgain : Tell::kNothing;
    }
    if (exposed_bytes < least_bytes_) {
      least_bytes_ = exposed_bytes;
      less_ns_ = now_ns;
    }
    // Again only if it has become far worse.
    if (now_ns - less_ns_ < kStuckNs || exposed_bytes < 2 * told_bytes_) return Tell::kNothing;
    told_bytes_ = exposed_bytes;
    return Tell::kExposed;
  }

 private:
  uint64_t least_bytes_ = UINT64_MAX;  // since nothing was exposed
  int64_t less_ns_ = 0;                // when it became that
  uint64_t told_bytes_ = 0;
};

}  // namespace hecaton
