#include "wire/page_checksum.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace hecaton::wire {
namespace {

// Machines with and without AVX2 must agree, or a page would be damaged by changing machines.
TEST(PageChecksum, IsTheSameInBothBuilds) {
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "this processor has no AVX2";
  std::mt19937_64 random(7);
  for (size_t bytes : {1u, 100u, 1000u, 4096u}) {
    std::vector<std::byte> content(bytes);
    for (std::byte& b : content) b = static_cast<std::byte>(random());
    const uint64_t seed = random();
    EXPECT_EQ(xxh3(content.data(), bytes, seed), xxh3_avx2(content.data(), bytes, seed));
    EXPECT_NE(xxh3(content.data(), bytes, seed), xxh3_avx2(content.data(), bytes, seed + 1));
  }
}

}  // namespace
}  // namespace hecaton::wire
