// An event counter that any thread may raise and read.
#pragma once

#include <atomic>
#include <cstdint>

namespace hecaton {

class Counter {
 public:
  // Relaxed: a count orders nothing.
  void add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

}  // namespace hecaton
