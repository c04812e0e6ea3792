#include "residency/budget.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace hecaton {
namespace {

TEST(Budget, NeverPassesItsLimit) {
  Budget budget(100, 1'000'000);
  EXPECT_TRUE(budget.try_take(100));
  EXPECT_FALSE(budget.try_take(1));
  budget.give(1);
  EXPECT_TRUE(budget.try_take(1));
  EXPECT_EQ(budget.peak(), 100u);
}

TEST(Budget, KeepsHalfTheReserveFromPrefetch) {
  Budget budget(1600, 1'000'000);  // reserve 100
  EXPECT_TRUE(budget.try_take_for_prefetch(1550));
  EXPECT_FALSE(budget.try_take_for_prefetch(1));
  EXPECT_TRUE(budget.try_take(50));
}

TEST(Budget, AsksForEvictionBeforeItIsFullAndStopsLower) {
  Budget budget(1600, 1'000'000);
  ASSERT_TRUE(budget.try_take(1500));
  EXPECT_FALSE(budget.eviction_due());
  ASSERT_TRUE(budget.try_take(1));
  EXPECT_TRUE(budget.eviction_due());
  budget.give(50);
  EXPECT_FALSE(budget.eviction_done());
  budget.give(1);
  EXPECT_TRUE(budget.eviction_done());
}

TEST(Budget, HoldsUnderConcurrentTaking) {
  Budget budget(1000, 1'000'000);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) {
        if (budget.try_take(3)) budget.give(3);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(budget.resident(), 0u);
  EXPECT_LE(budget.peak(), 1000u);
}

TEST(Budget, WantsNothingToLeaveIfTheWholeRegionMayBeHere) {
  Budget budget(1000, 1000);
  ASSERT_TRUE(budget.try_take(1000));
  EXPECT_FALSE(budget.eviction_due());
}

}  // namespace
}  // namespace hecaton
