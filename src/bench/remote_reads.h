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

// Where the time of a remote fault goes, nanoseconds; one sample a fault.
struct FaultStages {
  std::vector<int64_t> event_wait;  // until the fault thread has read the event
  std::vector<int64_t> table;       // until the table says what to do
  std::vector<int64_t> send;        // until the kernel has taken the request
  std::vector<int64_t> wire;        // until the answer is here
  std::vector<int64_t> install;     // until the page is in place
  std::vector<int64_t> wake;        // until the reader goes on
};

// Reads one word of random pages until `rounds` of them were remote; how long those reads took, in nanoseconds. Adds
// the reads that found a wrong word to `wrong`.
std::vector<int64_t> read_remote(const PagedRegion& region, UsedPages pages, size_t rounds, uint64_t seed,
                                 uint64_t* wrong, FaultStages* stages = nullptr);

}  // namespace hecaton::bench
