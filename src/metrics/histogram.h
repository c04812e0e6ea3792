// Latency histogram: log-linear buckets, 16 per power of two, so that a quantile is off by at most 6.25 %.
// One or more threads record; any thread reads. Nothing is allocated.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

namespace hecaton {

class Histogram {
 public:
  void record(uint64_t value) {
    // Relaxed: buckets are independent counts; a reader needs no order between them.
    buckets_[bucket_of(value)].fetch_add(1, std::memory_order_relaxed);
    uint64_t seen = max_.load(std::memory_order_relaxed);
    while (value > seen && !max_.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
    }
  }

  uint64_t count() const {
    uint64_t sum = 0;
    for (const auto& bucket : buckets_) sum += bucket.load(std::memory_order_relaxed);
    return sum;
  }
  uint64_t max() const { return max_.load(std::memory_order_relaxed); }
  // The value below or at which `fraction` (0 to 1) of all records lie; 0 if there are none.
  uint64_t quantile(double fraction) const {
    uint64_t total = count();
    if (total == 0) return 0;
    uint64_t wanted = static_cast<uint64_t>(fraction * static_cast<double>(total - 1)) + 1;
    uint64_t sum = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      sum += buckets_[i].load(std::memory_order_relaxed);
      if (sum >= wanted) return upper_bound_of(i) < max() ? upper_bound_of(i) : max();
    }
    return max();
  }

 private:
  static constexpr unsigned kSubBits = 4;
  static constexpr size_t kBuckets = (64 - kSubBits) << kSubBits;

  static size_t bucket_of(uint64_t value) {
    if (value < (1u << kSubBits)) return value;
    unsigned exponent = static_cast<unsigned>(std::bit_width(value)) - 1;
    unsigned shift = exponent - kSubBits;
    size_t bucket = (static_cast<size_t>(shift + 1) << kSubBits) + ((value >> shift) & ((1u << kSubBits) - 1));
    return bucket < kBuckets ? bucket : kBuckets - 1;
  }
  static uint64_t upper_bound_of(size_t bucket) {
    if (bucket < (1u << kSubBits)) return bucket;
    unsigned shift = static_cast<unsigned>(bucket >> kSubBits) - 1;
    uint64_t low = ((bucket & ((1u << kSubBits) - 1)) | (1u << kSubBits)) << shift;
    return low + (uint64_t{1} << shift) - 1;
  }

  std::array<std::atomic<uint64_t>, kBuckets> buckets_{};
  std::atomic<uint64_t> max_{0};
};

}  // namespace hecaton
