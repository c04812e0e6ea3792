// How a region is divided over the shards of its pager: stripes of equal size, dealt to the shards in turn.
//
//   region   | stripe 0 | stripe 1 | stripe 2 | stripe 3 | ...
//   shard         0          1          0          1          (of two)
//
// Pure. A stripe is whole extents, so what lies within one extent has one shard.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/units.h"

namespace hecaton {

class Stripes {
 public:
  static constexpr unsigned kMostShards = 16;
  static constexpr uint64_t kMinimumPages = 2_MiB / kPageBytes;
  // A shard's stripes. Each is a mapping of its own to the kernel, which walks them all when it looks for one.
  static constexpr uint64_t kMostPerShard = 16;

  // All in one.
  constexpr Stripes() = default;
  // `pages_per_stripe` is a power of two.
  constexpr Stripes(unsigned shards, uint64_t pages_per_stripe)
      : shards_(shards), shift_(static_cast<unsigned>(std::countr_zero(pages_per_stripe))) {}

  // For a region of so many pages; fewer shards than wanted if there are not that many stripes.
  static constexpr Stripes over(uint64_t pages, unsigned wanted) {
    const unsigned shards = std::clamp(wanted, 1u, kMostShards);
    const uint64_t parts = shards * kMostPerShard;
    const uint64_t stripe = std::bit_ceil(std::max(kMinimumPages, (pages + parts - 1) / parts));
    const uint64_t stripes = std::max<uint64_t>(1, (pages + stripe - 1) / stripe);
    return Stripes(static_cast<unsigned>(std::min<uint64_t>(shards, stripes)), stripe);
  }

  constexpr unsigned shards() const { return shards_; }
  constexpr uint64_t pages_per_stripe() const { return uint64_t{1} << shift_; }
  constexpr unsigned shard_of(PageNumber page) const {
    return shards_ == 1 ? 0 : static_cast<unsigned>((page.value >> shift_) % shards_);
  }
  // The part of the run that lies in the stripe of its first page.
  constexpr PageRun within_stripe(PageRun run) const {
    if (shards_ == 1) return run;
    return {run.first, std::min(run.count, pages_per_stripe() - (run.first.value & (pages_per_stripe() - 1)))};
  }
  constexpr bool operator==(const Stripes&) const = default;

 private:
  unsigned shards_ = 1;
  unsigned shift_ = 63;
};

// One for every four processors: a shard is a thread that serves faults of several virtual processors.
constexpr unsigned auto_shards(unsigned processors) {
  return std::clamp(processors / 4, 1u, 8u);
}

}  // namespace hecaton
