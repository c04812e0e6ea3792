// Compressed pages through a whole pager and a donor in this process: whole, short and mixed ones come back as they
// were written, however they are fetched.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "capi/paged_region.h"

namespace hecaton {
namespace {

constexpr uint64_t kPages = 4096;

// By turns noise, noise in its first quarter, and a few words; another each round.
std::vector<std::byte> content_of(uint64_t page, uint64_t round) {
  std::mt19937_64 random(page << 8 | round);
  std::vector<std::byte> bytes(kPageBytes);
  const size_t noise = page % 3 == 0 ? kPageBytes : page % 3 == 1 ? kPageBytes / 4 : 64;
  for (size_t at = 0; at < noise; at += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
  return bytes;
}

class CompressionTest : public testing::Test {
 protected:
  void open(Compression compression) {
    PagedRegionConfig config;
    config.bytes = kPages * kPageBytes;
    config.local_bytes = config.bytes / 8;
    config.compression = compression;
    std::string problem;
    auto opened = PagedRegion::open(std::move(config), &problem);
    ASSERT_TRUE(opened.ok()) << problem;
    region = std::move(opened).value();
  }
  void write_all(uint64_t round) {
    for (uint64_t page = 0; page < kPages; ++page) {
      std::memcpy(region->data() + page * kPageBytes, content_of(page, round).data(), kPageBytes);
    }
  }
  bool holds(uint64_t page, uint64_t round) {
    return std::memcmp(region->data() + page * kPageBytes, content_of(page, round).data(), kPageBytes) == 0;
  }
  std::unique_ptr<PagedRegion> region;
};

TEST_F(CompressionTest, EveryPageComesBackAsItWasWritten) {
  open(Compression::kOn);
  for (uint64_t round = 1; round <= 2; ++round) {
    write_all(round);
    for (uint64_t page = 0; page < kPages; ++page) ASSERT_TRUE(holds(page, round)) << page;
    for (uint64_t i = 0, page = 0; i < kPages; ++i, page = (page + 1597) % kPages) {
      ASSERT_TRUE(holds(page, round)) << page;
    }
  }
  const PagerStats stats = region->stats();
  EXPECT_TRUE(stats.compressing);
  EXPECT_GT(stats.prefetched_pages, 0u);
  EXPECT_GT(stats.faults_remote, 0u);
  // A third of the pages cannot shrink, and is sent as it is.
  EXPECT_GT(stats.compressed_pages, stats.written_back_pages / 2);
  EXPECT_GT(stats.wire_bytes_written, stats.written_back_pages * kPageBytes / 3);
  EXPECT_LT(stats.wire_bytes_written, stats.written_back_pages * kPageBytes * 2 / 3);
}

TEST_F(CompressionTest, NothingIsCompressedOnTheWayToADonorOnThisMachine) {
  open(Compression::kAuto);
  write_all(1);
  for (uint64_t page = 0; page < kPages; ++page) ASSERT_TRUE(holds(page, 1)) << page;
  const PagerStats stats = region->stats();
  EXPECT_FALSE(stats.compressing);
  EXPECT_EQ(stats.compressed_pages, 0u);
  EXPECT_GE(stats.wire_bytes_written, stats.written_back_pages * kPageBytes);
}

}  // namespace
}  // namespace hecaton
