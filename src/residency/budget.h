// How many pages may be resident, and how many are. Every page is counted before it is put in place and given back
// after its hole is punched, so the count is never below what is really there (invariant 5: the slack is zero).
//
//   0 ─────────────────────── evict_until ── evict_from ──────── limit
//                                  the reserve of free budget ───▶│
//
// Eviction starts above evict_from and goes on down to evict_until, in the background; a fault waits for it only at the
// limit itself. Pure; any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/check.h"

namespace hecaton {

class Budget {
 public:
  static constexpr uint64_t kMinimumPages = 64;

  // Of a region of that size. If all of it may be resident, nothing ever has to leave, and there is no reserve.
  Budget(uint64_t limit_pages, uint64_t region_pages)
      : limit_(limit_pages),
        reserve_(limit_pages >= region_pages ? 0 : std::clamp<uint64_t>(limit_pages / 16, 16, 8192)) {
    HEC_CHECK(limit_pages >= kMinimumPages);
  }

  // Counts `pages` in, unless that would pass the limit.
  bool try_take(uint64_t pages) { return take_below(pages, limit_); }
  // The same for prefetch, which must leave half of the reserve to demand faults.
  bool try_take_for_prefetch(uint64_t pages) { return take_below(pages, limit_ - reserve_ / 2); }
  void give(uint64_t pages) {
    uint64_t before = resident_.fetch_sub(pages);
    HEC_CHECK(before >= pages);
  }

  // What is resident already when this object begins: after a takeover.
  void begin_with(uint64_t pages) {
    resident_.store(pages);
    peak_.store(pages);
  }

  bool eviction_due() const { return resident_.load() > limit_ - reserve_; }
  bool eviction_done() const { return resident_.load() <= limit_ - reserve_ - reserve_ / 2; }

  uint64_t resident() const { return resident_.load(); }
  uint64_t peak() const { return peak_.load(); }
  uint64_t limit() const { return limit_; }
  uint64_t reserve() const { return reserve_; }

 private:
  bool take_below(uint64_t pages, uint64_t most) {
    uint64_t now = resident_.load();
    do {
      if (now + pages > most) return false;
    } while (!resident_.compare_exchange_weak(now, now + pages));
    uint64_t peak = peak_.load();
    while (now + pages > peak && !peak_.compare_exchange_weak(peak, now + pages)) {
    }
    return true;
  }

  const uint64_t limit_;
  const uint64_t reserve_;
  std::atomic<uint64_t> resident_{0};
  std::atomic<uint64_t> peak_{0};
};

}  // namespace hecaton
