#include "store/page_codec.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

namespace hecaton {
namespace {

using Page = std::array<std::byte, kPageBytes>;
using Block = std::array<std::byte, PageCompressor::kMostBytes>;

// The first `random_bytes` of it are noise.
Page page_with(size_t random_bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  Page page{};
  for (size_t i = 0; i < random_bytes; ++i) page[i] = static_cast<std::byte>(random());
  return page;
}

TEST(PageCodec, APageComesBackFromItsBlockAsItWas) {
  PageCompressor compressor;
  for (size_t noise : {0u, 1u, 100u, 1000u, 2500u}) {
    const Page page = page_with(noise, noise);
    Block block;
    const size_t bytes = compressor.compress(page, block);
    ASSERT_GT(bytes, 0u) << noise;
    ASSERT_LT(bytes, noise + 100) << noise;
    Page back = page_with(kPageBytes, 1);
    ASSERT_TRUE(decompress_page(std::span(block).first(bytes), back)) << noise;
    EXPECT_EQ(back, page) << noise;
  }
}

TEST(PageCodec, APageThatHardlyShrinksIsLeftAsItIs) {
  PageCompressor compressor;
  Block block;
  EXPECT_EQ(compressor.compress(page_with(kPageBytes, 3), block), 0u);
  EXPECT_EQ(compressor.compress(page_with(PageCompressor::kMostBytes + 100, 3), block), 0u);
}

TEST(PageCodec, ABlockThatIsNotOfOneWholePageIsRefused) {
  PageCompressor compressor;
  Block block;
  const size_t bytes = compressor.compress(page_with(500, 5), block);
  struct {
    Page page;
    std::array<std::byte, 64> fence;
  } out{};
  for (size_t cut = 0; cut < bytes; ++cut) {
    EXPECT_FALSE(decompress_page(std::span(block).first(cut), out.page)) << cut;
  }
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed());
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::byte> noise(1 + random() % 300);
    for (std::byte& b : noise) b = static_cast<std::byte>(random());
    (void)decompress_page(noise, out.page);
  }
  EXPECT_EQ(out.fence, (std::array<std::byte, 64>{}));
}

}  // namespace
}  // namespace hecaton
