// XXH3 in two builds, for processors with and without wide registers. What the rest of the program calls is
// page_checksum() in frame.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hecaton::wire {

// Both give the same; the second needs AVX2.
uint64_t xxh3(const std::byte* bytes, size_t count, uint64_t seed);
uint64_t xxh3_avx2(const std::byte* bytes, size_t count, uint64_t seed);

}  // namespace hecaton::wire
