// The invariants of the design (ARCHITECTURE.md), under random interleavings. A failure prints the seed that replays
// it.
#include "pager/paging_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>

#include "base/sanitized_for_tests.h"

namespace hecaton {
namespace {

uint64_t first_seed() {
  return static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()) * 1000 + 1;
}

// The model has one thread: what a sanitizer may find in it, it finds in a share of the seeds.
int share_of(int seeds) {
  return kSanitized ? (seeds + 4) / 5 : seeds;
}

void run_steps(PagingModel& model, int steps) {
  for (int n = 0; n < steps && model.breach().empty(); ++n) {
    model.step();
    if (n % 200 == 0) model.come_to_rest();
  }
}

// Runs many seeds; stops at the first breach.
void run_seeds(PagingModel::Options options, int seeds, int steps) {
  for (int i = 0; i < share_of(seeds); ++i) {
    options.seed = first_seed() + static_cast<uint64_t>(i);
    PagingModel model(options);
    run_steps(model, steps);
    model.settle_and_verify();
    ASSERT_EQ(model.breach(), "");
    ASSERT_FALSE(model.lost()) << model.loss();
    ASSERT_GT(model.state().counters.evicted.value(), 0u) << "the test must evict to be worth anything";
    ASSERT_GT(model.accesses(), 100u);
    ASSERT_EQ(model.state().counters.bad_seals.value(), 0u) << "seed " << options.seed;
    if (options.compression == Compression::kOff) {
      ASSERT_NE(model.donor_saw_the_guests_words(), options.seal);
    }
    ASSERT_EQ(model.state().counters.compressed.value() > 0, options.compression == Compression::kOn);
  }
}

// Invariants 1, 2, 3, 5 and 6: reads, writes, evictions, prefetch, discards, and events that come late and twice.
TEST(PagingModel, TheGuestReadsWhatItWroteWhateverRanBetween) {
  run_seeds({}, 30, 20'000);
}

TEST(PagingModel, TheSameOnAKernelThatCannotMapProtected) {
  run_seeds({.protected_map = false}, 15, 20'000);
}

TEST(PagingModel, TheSameWithTheSmallestBudget) {
  run_seeds({.pages = 300, .budget = Budget::kMinimumPages, .processors = 8}, 15, 20'000);
}

// Pages are torn while they are compressed, too: the guest runs between the protection and the sending.
TEST(PagingModel, TheSameWithCompressedPages) {
  run_seeds({.compression = Compression::kOn}, 20, 20'000);
  run_seeds({.pages = 90, .budget = 64, .processors = 6, .compression = Compression::kOn}, 20, 20'000);
}

// A record belongs to what donors hold whenever the table says Remote or Clean, whatever ran between.
TEST(PagingModel, TheSameWithSealedPages) {
  run_seeds({.seal = true}, 10, 20'000);
  run_seeds({.pages = 300, .budget = Budget::kMinimumPages, .processors = 8, .seal = true}, 8, 20'000);
  run_seeds({.pages = 90, .budget = 64, .processors = 6, .seal = true, .shards = 3, .stripe_pages = 4}, 20, 20'000);
}

TEST(PagingModel, TheSameWithPagesCompressedAndSealed) {
  run_seeds({.pages = 90, .budget = 64, .processors = 6, .compression = Compression::kOn, .seal = true}, 15, 20'000);
}

// Few pages, so that everybody meets on the same ones.
TEST(PagingModel, TheSameWhereEverybodyMeets) {
  run_seeds({.pages = 90, .budget = 64, .processors = 6}, 40, 20'000);
}

// Two and three fault threads over stripes, which everybody else's runs and windows cross.
TEST(PagingModel, TheSameWithAFaultThreadForEachShard) {
  run_seeds({.shards = 2}, 15, 20'000);
  run_seeds({.protected_map = false, .shards = 3}, 10, 20'000);
  run_seeds({.pages = 300, .budget = Budget::kMinimumPages, .processors = 8, .shards = 2}, 10, 20'000);
  run_seeds({.pages = 90, .budget = 64, .processors = 6, .shards = 3, .stripe_pages = 4}, 30, 20'000);
}

// What the test above is worth: every shard works, and often while another is in the middle of something; and scans go
// from one to the other.
TEST(PagingModel, RunsItsShardsSideBySide) {
  PagingModel::Options options{.shards = 2};
  options.seed = first_seed();
  PagingModel model(options);
  run_steps(model, 60'000);
  ASSERT_EQ(model.breach(), "");
  EXPECT_GT(model.shards_overlapped(), 500u);
  EXPECT_GT(model.streams_handed(), 10u);
}

// What the tests above are worth for prefetching: its pages are used, and come late, and its windows are of every kind.
// Ten lives at most, until all of it was seen.
TEST(PagingModel, PrefetchesScansOfEveryKind) {
  uint64_t used = 0, late = 0;
  std::set<int64_t> strides;
  const auto seen = [&] {
    return used > 1000 && late > 100 && std::ranges::all_of(std::set<int64_t>{1, -1, 2, -3, 16}, [&](int64_t stride) {
             return strides.contains(stride);
           });
  };
  for (int i = 0; i < 10 && !seen(); ++i) {
    PagingModel::Options options{.pages = 1200, .budget = 256, .discards = false};
    options.seed = first_seed() + static_cast<uint64_t>(i);
    PagingModel model(options);
    run_steps(model, 60'000);
    model.settle_and_verify();
    ASSERT_EQ(model.breach(), "");
    used += model.state().counters.prefetch_used.value();
    late += model.state().counters.prefetch_late.value();
    strides.insert(model.strides_prefetched().begin(), model.strides_prefetched().end());
  }
  EXPECT_TRUE(seen()) << used << " used, " << late << " late, strides " << testing::PrintToString(strides);
}

// The points that a short life of a pager has to die at; the next seed whose life has many, and evictions, is taken.
constexpr int kShortLife = 700;
constexpr uint64_t kFewPoints = 300;
uint64_t choose_life(PagingModel::Options& options) {
  for (int tries = 0; tries < 50; ++tries, ++options.seed) {
    PagingModel model(options);
    run_steps(model, kShortLife);
    EXPECT_EQ(model.breach(), "");
    if (model.state().counters.evicted.value() > 0 && model.points() > kFewPoints) return model.points();
  }
  ADD_FAILURE() << "no life with an eviction in it, and many points";
  return 0;
}

// Invariants 1 to 4 at every single point: the same life again and again, and each time death comes one call later.
void die_everywhere(PagingModel::Options options) {
  options.seed = first_seed();
  const uint64_t points = choose_life(options);
  const uint64_t stride = kSanitized ? 5 : 1;  // as share_of()
  for (options.die_at = 1; options.die_at <= points; options.die_at += stride) {
    PagingModel model(options);
    run_steps(model, kShortLife);
    model.settle_and_verify();
    ASSERT_EQ(model.breach(), "") << "death at point " << options.die_at << " of " << points;
    ASSERT_FALSE(model.lost()) << model.loss() << ", death at point " << options.die_at;
    ASSERT_EQ(model.deaths(), 1u);
  }
}

TEST(PagingModel, NothingIsLostWhereverThePagerDies) {
  die_everywhere({.pages = 90, .budget = 64, .processors = 6});
}

TEST(PagingModel, NothingIsLostWhereverThePagerDiesOnAnOldKernel) {
  die_everywhere({.pages = 90, .budget = 64, .processors = 6, .protected_map = false});
}

TEST(PagingModel, NothingIsLostWhereverAPagerOfSeveralShardsDies) {
  die_everywhere(
      {.pages = 90, .budget = 64, .processors = 6, .compression = Compression::kOn, .shards = 2, .stripe_pages = 8});
}

// Many deaths, some of them of a pager that has not recovered yet.
void die_often(PagingModel::Options options, int seeds) {
  uint64_t deaths = 0;
  for (int i = 0; i < share_of(seeds); ++i) {
    options.seed = first_seed() + static_cast<uint64_t>(i);
    PagingModel model(options);
    run_steps(model, 20'000);
    model.settle_and_verify();
    ASSERT_EQ(model.breach(), "");
    ASSERT_FALSE(model.lost()) << model.loss();
    deaths += model.deaths();
  }
  EXPECT_GT(deaths, 5u * static_cast<uint64_t>(share_of(seeds)));
}

TEST(PagingModel, NothingIsLostThoughPagersDieAgainAndAgain) {
  die_often({.die_at_random = 0.003}, 15);
  die_often({.pages = 90, .budget = 64, .processors = 6, .die_at_random = 0.003}, 20);
  die_often({.pages = 300,
             .budget = Budget::kMinimumPages,
             .processors = 8,
             .shards = 3,
             .stripe_pages = 8,
             .die_at_random = 0.01},
            10);
}

// What the fence is for: without it, what a dead pager has sent changes the donor under the new one.
TEST(PagingModel, WithoutAFenceLateWritesDoHarm) {
  bool harm = false;
  for (int i = 0; i < 100 && !harm; ++i) {
    PagingModel::Options options{.pages = 90, .budget = 64, .processors = 6, .die_at_random = 0.003, .fence = false};
    options.seed = first_seed() + static_cast<uint64_t>(i);
    PagingModel model(options);
    run_steps(model, 20'000);
    model.settle_and_verify();
    harm = model.lost() || !model.breach().empty();
  }
  EXPECT_TRUE(harm);
}

TEST(PagingModel, DamageOnTheWayIsSentOrFetchedAgain) {
  for (bool seal : {false, true}) {
    PagingModel::Options options{.seal = seal, .damage = 0.02};
    options.seed = first_seed();
    PagingModel model(options);
    for (int n = 0; n < 60'000 && model.breach().empty(); ++n) model.step();
    EXPECT_EQ(model.breach(), "");
    EXPECT_GT(model.state().counters.refetched.value(), 0u);
    EXPECT_GT(model.state().counters.rejected_writes.value(), 0u);
  }
}

// Invariant 4: zeros and old bytes are never given to the guest; the loss is reported instead.
TEST(PagingModel, APageThatTheDonorForgotIsReportedAndNeverReadAsZeros) {
  PagingModel::Options options{.discards = false};
  options.seed = first_seed();
  PagingModel model(options);
  for (int n = 0; n < 20'000; ++n) model.step();
  ASSERT_TRUE(model.forget_a_remote_page());
  model.settle_and_verify();
  EXPECT_EQ(model.breach(), "");
  EXPECT_THAT(model.loss(), testing::HasSubstr("no longer has"));
}

TEST(PagingModel, AnOlderVersionFromTheDonorIsReportedAndNeverRead) {
  PagingModel::Options options{.discards = false};
  options.seed = first_seed();
  PagingModel model(options);
  bool rolled_back = false;
  for (int n = 0; n < 200'000 && !rolled_back; ++n) {
    model.step();
    if (n > 20'000) rolled_back = model.roll_back_a_remote_page();
  }
  ASSERT_TRUE(rolled_back);
  model.settle_and_verify();
  EXPECT_EQ(model.breach(), "");
  EXPECT_THAT(model.loss(), testing::HasSubstr("older version"));
}

// A donor that answers with what it likes, in the right version and with the right checksum.
class LyingDonor : public testing::TestWithParam<PagingModel::Lie> {
 protected:
  static constexpr uint64_t kSeeds = 10;
  static std::unique_ptr<PagingModel> model_after_lies(PagingModel::Options options, uint64_t seed) {
    options.discards = false;
    options.seed = first_seed() + seed;
    auto model = std::make_unique<PagingModel>(options);
    for (int n = 0; n < 30'000; ++n) model->step();
    EXPECT_GT(model->lie_about_remote_pages(GetParam()), 20u);
    model->settle_and_verify();
    return model;
  }
};

TEST_P(LyingDonor, IsFoundOutByTheSealAndItsBytesAreNeverRead) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Compression compression = seed % 2 == 0 ? Compression::kOff : Compression::kOn;
    const auto model = model_after_lies({.compression = compression, .seal = true}, seed);
    ASSERT_EQ(model->breach(), "");
    ASSERT_THAT(model->loss(), testing::HasSubstr("changed or rolled back a sealed page: page at guest offset 0x"));
    ASSERT_THAT(model->loss(), testing::HasSubstr("donor the-model:1"));
    ASSERT_GE(model->state().counters.bad_seals.value(), 3u) << "it is asked again before the guest is stopped";
  }
}

// What the test above is worth: without a seal, these lies are believed.
TEST_P(LyingDonor, IsBelievedWithoutASeal) {
  const auto model = model_after_lies({}, 0);
  EXPECT_EQ(model->loss(), "");
  if (GetParam() == PagingModel::Lie::kOlderBytes) {
    EXPECT_THAT(model->breach(), testing::HasSubstr("the guest read"));
  }
}

INSTANTIATE_TEST_SUITE_P(, LyingDonor,
                         testing::Values(PagingModel::Lie::kOlderBytes, PagingModel::Lie::kBitFlipped,
                                         PagingModel::Lie::kAnotherPage));

}  // namespace
}  // namespace hecaton
