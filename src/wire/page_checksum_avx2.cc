// Compiled for AVX2; the caller asks the processor first. Includes nothing that has inline functions of its own: the
// linker might take this file's build of them for the whole program.
#include "wire/page_checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace hecaton::wire {

uint64_t xxh3_avx2(const std::byte* bytes, size_t count, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes, count, seed);
}

}  // namespace hecaton::wire
