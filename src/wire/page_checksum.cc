#include "wire/page_checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "wire/frame.h"

namespace hecaton::wire {

uint64_t xxh3(const std::byte* bytes, size_t count, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes, count, seed);
}

uint64_t page_checksum(std::span<const std::byte> stored, PageNumber page, uint32_t version) {
  static const auto sum = __builtin_cpu_supports("avx2") ? xxh3_avx2 : xxh3;
  // A seed that no two (page, version) pairs in use share: the odd multiplier permutes 64 bits.
  const uint64_t seed = (page.value << 24 | version) * 0x9e3779b97f4a7c15ull;
  return sum(stored.data(), stored.size(), seed);
}

}  // namespace hecaton::wire
