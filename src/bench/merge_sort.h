// A bottom-up merge sort of 64-bit keys: sorted runs that fit a processor's cache, then passes that merge two runs into
// one. It reads two streams and writes one at a time: as friendly to paging as sorting gets. Pure.
#pragma once

#include <cstdint>
#include <span>

namespace hecaton::bench {

// `spare` is as long as `keys`. Returns which of the two holds the sorted keys.
std::span<uint64_t> merge_sort(std::span<uint64_t> keys, std::span<uint64_t> spare);

// The same for the same keys in any order, and for hardly any others.
uint64_t multiset_checksum(std::span<const uint64_t> keys);

}  // namespace hecaton::bench
