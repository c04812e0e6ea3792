#include "base/stripes.h"

#include <gtest/gtest.h>

#include <vector>

namespace hecaton {
namespace {

TEST(Stripes, DealTheRegionToTheShardsInTurn) {
  const Stripes stripes(3, 512);
  std::vector<unsigned> shards;
  for (uint64_t stripe = 0; stripe < 7; ++stripe) shards.push_back(stripes.shard_of(PageNumber(stripe * 512)));
  EXPECT_EQ((std::vector<unsigned>{0, 1, 2, 0, 1, 2, 0}), shards);
  EXPECT_EQ(0u, stripes.shard_of(PageNumber(511)));
  EXPECT_EQ(1u, stripes.shard_of(PageNumber(1023)));
}

TEST(Stripes, GiveOneShardEverything) {
  const Stripes stripes = Stripes::over(1 << 20, 1);
  EXPECT_EQ(1u, stripes.shards());
  for (uint64_t page : {0, 511, 512, 65'536, 1'000'000}) EXPECT_EQ(0u, stripes.shard_of(PageNumber(page)));
  const PageRun all{PageNumber(0), 1 << 20};
  EXPECT_EQ(all, stripes.within_stripe(all));
  EXPECT_EQ(all, Stripes().within_stripe(all));
}

TEST(Stripes, KeepAnExtentTogetherAndTheMappingsFew) {
  for (unsigned shards = 1; shards <= Stripes::kMostShards; ++shards) {
    for (uint64_t bytes = 1_MiB; bytes <= 16384_GiB; bytes = bytes * 3 + 1_MiB) {
      const Stripes stripes = Stripes::over(pages_in(bytes), shards);
      const uint64_t size = stripes.pages_per_stripe();
      EXPECT_EQ(0u, size % kPagesPerExtent);
      EXPECT_EQ(0u, size & (size - 1));
      EXPECT_GE(size, Stripes::kMinimumPages);
      EXPECT_LE((pages_in(bytes) + size - 1) / size, shards * Stripes::kMostPerShard) << shards << " over " << bytes;
    }
  }
}

TEST(Stripes, AreNotLargerThanTheMappingsRequire) {
  EXPECT_EQ(512u, Stripes::over(pages_in(64_MiB), 2).pages_per_stripe());
  EXPECT_EQ(pages_in(1_GiB), Stripes::over(pages_in(64_GiB), 4).pages_per_stripe());
  EXPECT_EQ(pages_in(2_GiB), Stripes::over(pages_in(64_GiB) + 1, 4).pages_per_stripe());
}

TEST(Stripes, LeaveNoShardWithoutAStripe) {
  EXPECT_EQ(1u, Stripes::over(pages_in(1_MiB), 8).shards());
  EXPECT_EQ(1u, Stripes::over(pages_in(2_MiB), 8).shards());
  EXPECT_EQ(2u, Stripes::over(pages_in(2_MiB) + 1, 8).shards());
  EXPECT_EQ(8u, Stripes::over(pages_in(16_MiB), 8).shards());
  EXPECT_EQ(16u, Stripes::over(pages_in(1_GiB), 99).shards());
  EXPECT_EQ(1u, Stripes::over(pages_in(1_GiB), 0).shards());
}

TEST(Stripes, CutARunAtTheEndOfItsStripe) {
  const Stripes stripes(2, 512);
  EXPECT_EQ((PageRun{PageNumber(500), 12}), stripes.within_stripe({PageNumber(500), 100}));
  EXPECT_EQ((PageRun{PageNumber(512), 100}), stripes.within_stripe({PageNumber(512), 100}));
  EXPECT_EQ((PageRun{PageNumber(1024), 512}), stripes.within_stripe({PageNumber(1024), 5000}));
}

TEST(AutoShards, AreOneForFourProcessorsUpToEight) {
  EXPECT_EQ(1u, auto_shards(0));
  EXPECT_EQ(1u, auto_shards(2));
  EXPECT_EQ(1u, auto_shards(7));
  EXPECT_EQ(2u, auto_shards(8));
  EXPECT_EQ(8u, auto_shards(32));
  EXPECT_EQ(8u, auto_shards(256));
}

}  // namespace
}  // namespace hecaton
