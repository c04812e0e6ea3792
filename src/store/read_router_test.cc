#include "store/read_router.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

constexpr int64_t kUs = 1000, kMs = 1'000'000;

class ReadRouting : public testing::Test {
 protected:
  ReadRouting() {
    for (size_t donor = 0; donor < 3; ++donor) states.set(donor, DonorState::kLive);
  }
  // One read of slot 0 from there, answered after `took`.
  void read_from(size_t donor, int64_t took) {
    const uint64_t id = router.sent(0, donor, now);
    EXPECT_EQ(router.answered(id, donor, now += took), 0u);
  }
  std::vector<uint32_t> give_up(size_t donor) {
    std::vector<uint32_t> orphans;
    router.give_up(donor, [&](uint32_t slot) { orphans.push_back(slot); });
    return orphans;
  }

  DonorStates states{8};
  ReadRouter router{4, states};
  const CopySet both = CopySet().with(0, true).with(1, true);
  int64_t now = 0;
};

TEST_F(ReadRouting, GoesToTheQuickerCopyAndNowAndThenToTheOther) {
  read_from(0, 300 * kUs);
  read_from(1, 20 * kUs);
  int at_1 = 0;
  for (int i = 0; i < 640; ++i) at_1 += router.choose(both) == 1u;
  EXPECT_EQ(at_1, 630);
}

TEST_F(ReadRouting, NeverGoesToACopyThatIsBeingFilled) {
  EXPECT_EQ(router.choose(CopySet().with(0, false).with(1, true)), 1u);
  EXPECT_FALSE(router.choose(CopySet().with(0, false)));
}

TEST_F(ReadRouting, GoesToASilentDonorOnlyIfThereIsNoOther) {
  states.set(0, DonorState::kSilent);
  EXPECT_EQ(router.choose(both), 1u);
  EXPECT_EQ(router.choose(CopySet().with(0, true)), 0u);
  states.set(1, DonorState::kCut);
  EXPECT_EQ(router.choose(both), 0u);
  states.set(0, DonorState::kLost);
  EXPECT_FALSE(router.choose(both));
}

TEST_F(ReadRouting, AvoidsTheDonorWhoseAnswerWasBadIfItCan) {
  EXPECT_EQ(router.choose(both, 0), 1u);
  EXPECT_EQ(router.choose(both, 1), 0u);
  EXPECT_EQ(router.choose(CopySet().with(1, true), 1), 1u);
}

TEST_F(ReadRouting, KnowsAnAnswerThatNobodyWaitsForAnyMore) {
  const uint64_t old = router.sent(2, 0, now);
  EXPECT_EQ(give_up(0), std::vector<uint32_t>{2});
  EXPECT_FALSE(router.answered(old, 0, now)) << "its donor was given up";
  const uint64_t next = router.sent(2, 0, now);
  EXPECT_FALSE(router.answered(old, 0, now)) << "it is of an earlier use of the slot";
  EXPECT_FALSE(router.answered(next, 1, now)) << "that donor was not asked";
  EXPECT_FALSE(router.answered(UINT64_MAX, 0, now));
  EXPECT_EQ(router.answered(next, 0, now), 2u);
  EXPECT_FALSE(router.answered(next, 0, now)) << "once";
}

TEST_F(ReadRouting, HedgesASlowReadOnceAndTheFirstAnswerCounts) {
  const uint64_t id = router.sent(1, 0, now);
  EXPECT_FALSE(router.hedge_due(now + ReadRouter::kHedgeNs - 1));
  now += ReadRouter::kHedgeNs;
  EXPECT_EQ(router.hedge_due(now), 1u);
  EXPECT_FALSE(router.hedge_due(now)) << "once";
  const uint64_t again = router.sent(1, 1, now);
  EXPECT_EQ(again, id) << "whichever answers, it is the same read";
  EXPECT_EQ(router.answered(again, 1, now), 1u);
  EXPECT_FALSE(router.answered(id, 0, now));
  EXPECT_FALSE(router.any_under_way());
}

TEST_F(ReadRouting, WaitsForTheOtherDonorWhenTheFirstAnswerIsOfNoUse) {
  const uint64_t id = router.sent(1, 0, now);
  router.sent(1, 1, now);
  ASSERT_EQ(router.answered(id, 1, now), 1u);
  EXPECT_TRUE(router.wait_for_other(1));
  EXPECT_TRUE(router.any_under_way());
  EXPECT_FALSE(router.hedge_due(now + 1000 * kMs)) << "that one was asked already";
  EXPECT_EQ(router.answered(id, 0, now), 1u);
  EXPECT_FALSE(router.wait_for_other(1)) << "both have answered";
}

TEST_F(ReadRouting, WaitsForNobodyWhoWasNotAskedInThisUseOfTheSlot) {
  router.answered(router.sent(1, 0, now), 0, now);
  EXPECT_FALSE(router.wait_for_other(1));
  const uint64_t old = router.sent(1, 0, now);
  router.sent(1, 1, now);
  router.answered(old, 0, now);
  const uint64_t next = router.sent(1, 0, now);
  EXPECT_FALSE(router.wait_for_other(1));
  EXPECT_FALSE(router.answered(old, 1, now)) << "of the use before";
  EXPECT_EQ(router.answered(next, 0, now), 1u);
}

TEST_F(ReadRouting, AReadThatWaitsForTheOtherDonorIsOrphanedWithIt) {
  const uint64_t id = router.sent(1, 0, now);
  router.sent(1, 1, now);
  router.answered(id, 0, now);
  ASSERT_TRUE(router.wait_for_other(1));
  EXPECT_TRUE(give_up(0).empty());
  EXPECT_EQ(give_up(1), std::vector<uint32_t>{1});
}

TEST_F(ReadRouting, IsPatientWithADonorThatIsAlwaysSlow) {
  for (int i = 0; i < 50; ++i) read_from(0, 10 * kMs);
  router.sent(1, 0, now);
  EXPECT_FALSE(router.hedge_due(now + 40 * kMs));
  EXPECT_TRUE(router.hedge_due(now + 200 * kMs));
}

TEST_F(ReadRouting, AReadUnderWayAtTwoSurvivesTheLossOfOne) {
  const uint64_t id = router.sent(1, 0, now);
  router.sent(1, 1, now);
  EXPECT_TRUE(give_up(0).empty());
  EXPECT_EQ(router.answered(id, 1, now), 1u);
}

TEST_F(ReadRouting, GivesUpAllReadsOfADonorWhateverIsSentAnewMeanwhile) {
  for (uint32_t slot = 0; slot < 4; ++slot) router.sent(slot, slot % 2, now);
  std::vector<uint32_t> orphans;
  router.give_up(0, [&](uint32_t slot) {
    orphans.push_back(slot);
    router.sent(slot, 1, now);
  });
  EXPECT_EQ(orphans.size(), 2u);
  EXPECT_EQ(give_up(1).size(), 4u);
  EXPECT_FALSE(router.any_under_way());
}

}  // namespace
}  // namespace hecaton
