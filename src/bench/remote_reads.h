// Random reads of pages that are not here: what `fault` and `nodes` measure.
#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"
#include "capi/paged_region.h"

namespace hecaton::bench {

// The pages of a region that a benchmark uses: the first few of every extent, or all.
struct UsedPages {
  uint64_t extents;
  uint64_t per_extent = kPagesPerExtent;

  uint64_t count() const { return extents * per_extent; }
  PageNumber at(uint64_t i) const { return PageNumber(i / per_extent * kPagesPerExtent + i % per_extent); }
};

// Writes a word into each of them that read_remote() recognizes. What does not fit becomes remote.
void fill(const PagedRegion& region, UsedPages pages);

// Reads one word of random pages until `rounds` of them were remote; how long those reads took, in nanoseconds. Adds
// the reads that found a wrong word to `wrong`.
std::vector<int64_t> read_remote(const PagedRegion& region, UsedPages pages, size_t rounds, uint64_t seed,
                                 uint64_t* wrong);

}  // namespace hecaton::bench
