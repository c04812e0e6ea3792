// Sealed pages through a whole pager: they come back as they were written; and a donor that answers with anything else
// is found out, by its name.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "capi/paged_region.h"
#include "lying_donor.h"

namespace hecaton {
namespace {

constexpr uint64_t kPages = 2048;

class SealRegion {
 protected:
  void open(bool seal, Compression compression, std::vector<NodeUrl> nodes = {}) {
    PagedRegionConfig config;
    config.bytes = kPages * kPageBytes;
    config.local_bytes = config.bytes / 4;
    config.seal = seal;
    config.compression = compression;
    config.shards = 2;
    config.nodes = std::move(nodes);
    if (config.nodes.size() > 1) config.protection = Protection::kMirror;
    std::string problem;
    auto opened = PagedRegion::open(std::move(config), &problem);
    ASSERT_TRUE(opened.ok()) << problem;
    region = std::move(opened).value();
  }
  // A few different words, so that a page can be compressed and two pages never are the same.
  static uint64_t word_of(uint64_t page, uint64_t round, size_t at) { return page << 20 | round << 8 | (at % 5 + 1); }
  volatile uint64_t* words(uint64_t page) {
    return reinterpret_cast<volatile uint64_t*>(region->data() + page * kPageBytes);
  }
  void write_all(uint64_t round) {
    for (uint64_t page = 0; page < kPages; ++page) {
      for (size_t at = 0; at < kPageBytes / 8; ++at) words(page)[at] = word_of(page, round, at);
    }
  }
  bool holds(uint64_t page, uint64_t round) {
    for (size_t at = 0; at < kPageBytes / 8; ++at) {
      if (words(page)[at] != word_of(page, round, at)) return false;
    }
    return true;
  }

  std::unique_ptr<PagedRegion> region;
};

class SealTest : public SealRegion, public testing::TestWithParam<Compression> {};

TEST_P(SealTest, EveryPageComesBackAsItWasWritten) {
  open(true, GetParam());
  for (uint64_t round = 1; round <= 2; ++round) {
    write_all(round);
    for (uint64_t page = 0; page < kPages; ++page) ASSERT_TRUE(holds(page, round)) << page;
    for (uint64_t i = 0, page = 0; i < kPages; ++i, page = (page + 797) % kPages) {
      ASSERT_TRUE(holds(page, round)) << page;
    }
  }
  const PagerStats stats = region->stats();
  EXPECT_TRUE(stats.sealed);
  EXPECT_EQ(stats.bad_seals, 0u);
  EXPECT_GT(stats.prefetched_pages, 0u);
  EXPECT_GT(stats.faults_remote, 0u);
  EXPECT_EQ(stats.compressed_pages > 0, GetParam() == Compression::kOn);
  EXPECT_GT(stats.table_bytes_per_page, 28.0);
}

INSTANTIATE_TEST_SUITE_P(, SealTest, testing::Values(Compression::kOff, Compression::kOn),
                         [](const auto& suite) { return suite.param == Compression::kOn ? "Compressed" : "Whole"; });

// What a donor is believed, or what becomes of the process that reads from it.
class LiesTest : public SealRegion, public testing::TestWithParam<LyingDonor::Lie> {
 protected:
  LiesTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  // The pages are at a donor that tells the truth so far, have been read once, and were written again.
  void open_at_liar(bool seal, bool mirrored = false) {
    DonorConfig config;
    config.lends_bytes = 64_MiB;
    config.threads = 1;
    honest = DonorServer::start(config).value();
    other = DonorServer::start(config).value();
    liar = LyingDonor::start({.token = {}, .host = "127.0.0.1", .port = 0}, honest->address()).value();
    std::vector<NodeUrl> nodes{liar->address()};
    if (mirrored) nodes.push_back(other->address());
    open(seal, Compression::kOff, std::move(nodes));
    write_all(1);
    for (uint64_t page = 0; page < kPages; ++page) ASSERT_TRUE(holds(page, 1)) << page;
    write_all(2);
  }
  void TearDown() override { region.reset(); }  // before its donor
  // Of all pages, as the donor tells them from now on.
  uint64_t wrong_pages() {
    liar->lie(GetParam(), 20);
    uint64_t wrong = 0;
    for (uint64_t page = 0; page < kPages; ++page) wrong += !holds(page, 2);
    return wrong;
  }

  std::unique_ptr<DonorServer> honest, other;
  std::unique_ptr<LyingDonor> liar;
};

TEST_P(LiesTest, AreFoundOutByTheSealAndNeverRead) {
  const auto read_from_liar = [&] {
    open_at_liar(true);
    fprintf(stderr, "%llu wrong pages were read\n", static_cast<unsigned long long>(wrong_pages()));
    _exit(0);
  };
  EXPECT_DEATH(read_from_liar(),
               "changed or rolled back a sealed page: page at guest offset 0x[0-9a-f]+, donor 127.0.0.1:[0-9]+");
}

// With another copy the guest goes on, and nothing wrong is read.
TEST_P(LiesTest, AreMadeGoodFromAnotherCopy) {
  open_at_liar(true, true);
  EXPECT_EQ(wrong_pages(), 0u);
  const PagerStats stats = region->stats();
  EXPECT_GT(liar->lies_told(), 0u);
  EXPECT_GT(stats.bad_seals, 0u);
  EXPECT_EQ(stats.lost_pages, 0u);
}

// What the tests above are worth.
TEST_P(LiesTest, AreBelievedWithoutASeal) {
  open_at_liar(false);
  EXPECT_GT(wrong_pages(), 0u);
  EXPECT_GT(liar->lies_told(), 0u);
  EXPECT_EQ(region->stats().lost_pages, 0u);
}

INSTANTIATE_TEST_SUITE_P(, LiesTest,
                         testing::Values(LyingDonor::Lie::kOlderBytes, LyingDonor::Lie::kBitFlipped,
                                         LyingDonor::Lie::kAnotherPage),
                         [](const auto& suite) {
                           switch (suite.param) {
                             case LyingDonor::Lie::kOlderBytes:
                               return "OlderBytes";
                             case LyingDonor::Lie::kBitFlipped:
                               return "BitFlipped";
                             default:
                               return "AnotherPage";
                           }
                         });

}  // namespace
}  // namespace hecaton
