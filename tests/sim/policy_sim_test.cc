#include <gtest/gtest.h>

#include "contender.h"
#include "simulate.h"

namespace hecaton::sim {
namespace {

constexpr uint64_t kSmall = 4;  // a quarter of the size

void touch(Trace& trace, uint32_t first, uint32_t count) {
  for (uint32_t page = first; page < first + count; ++page) trace.accesses.push_back({page & 0x7fffffff, false});
}

// A set of half of the budget that is used, overrun by a little, and used again, until a policy can know it.
Trace a_reused_set(uint32_t budget) {
  Trace trace;
  trace.budget = budget;
  trace.pages = budget * 8;
  for (uint32_t round = 0; round < 8; ++round) {
    touch(trace, 0, budget / 2);
    touch(trace, budget * (1 + round % 2), budget);
  }
  return trace;
}

TEST(PolicySim, AScanOfFourBudgetsPushesAReusedSetOutOfFifoAndNotOutOfHecaton) {
  constexpr uint32_t kBudget = 4096;
  Trace trace = a_reused_set(kBudget);
  touch(trace, 0, kBudget / 2);
  touch(trace, kBudget * 3, kBudget * 4);
  trace.warm_up = trace.accesses.size();
  touch(trace, 0, kBudget / 2);
  EXPECT_EQ(simulate(trace, "fifo").misses, kBudget / 2);
  EXPECT_EQ(simulate(trace, "address-clock").misses, kBudget / 2);
  EXPECT_LT(simulate(trace, "hecaton").misses, kBudget / 8);
}

// A set that was reused, and is never touched again, does not keep its place: what is used instead gets it.
TEST(PolicySim, ASetThatIsNoLongerUsedGivesWay) {
  constexpr uint32_t kBudget = 4096;
  Trace trace = a_reused_set(kBudget);
  for (int round = 0; round < 16; ++round) touch(trace, kBudget * 4, kBudget * 3 / 4);
  trace.warm_up = trace.accesses.size();
  touch(trace, kBudget * 4, kBudget * 3 / 4);
  EXPECT_LT(simulate(trace, "hecaton").misses, kBudget / 16);
}

TEST(PolicySim, HecatonMissesNoMoreThanFifoWherePagesDifferInHeat) {
  for (const char* name : {"zipf-50", "zipf-25", "zipf-10", "zipf+scan-25"}) {
    const Trace trace = make_trace(name, 7, kSmall);
    EXPECT_LT(simulate(trace, "hecaton").miss_ratio(), simulate(trace, "fifo").miss_ratio() * 0.97) << name;
  }
}

TEST(PolicySim, HecatonEvictsScatteredPagesInLongRuns) {
  for (const char* name : {"uniform-25", "churn-25"}) {
    const Trace trace = make_trace(name, 7, kSmall);
    const Outcome before = simulate(trace, "address-clock"), now = simulate(trace, "hecaton");
    EXPECT_GT(now.pages_per_run(), before.pages_per_run() * 20) << name;
    EXPECT_LT(now.evict_us_per_page(), before.evict_us_per_page() / 5) << name;
  }
}

TEST(PolicySim, HecatonCostsLessThanWhatWasBeforeOnEveryTrace) {
  for (const std::string& name : trace_names()) {
    const Trace trace = make_trace(name, 7, kSmall);
    EXPECT_LT(simulate(trace, "hecaton").us_per_access(), simulate(trace, "address-clock").us_per_access() * 1.01)
        << name;
  }
}

TEST(PolicySim, NoPolicyBeatsTheOptimum) {
  for (const std::string& name : trace_names()) {
    const Trace trace = make_trace(name, 7, kSmall * 2);
    if (trace.prefetch) continue;
    const uint64_t fewest = simulate_optimum(trace).misses;
    for (const std::string& policy : policy_names()) {
      EXPECT_GE(simulate(trace, policy).misses, fewest) << policy << " on " << name;
    }
  }
}

TEST(PolicySim, TheOptimumOfALoopKeepsWhatFits) {
  Trace trace;
  trace.pages = 100;
  trace.budget = 75;
  touch(trace, 0, 100);
  trace.warm_up = trace.accesses.size();
  for (int round = 0; round < 99; ++round) touch(trace, 0, 100);
  EXPECT_NEAR(simulate_optimum(trace).miss_ratio(), 25.0 / 99, 0.01);
}

TEST(PolicySim, RunsAreJoinedOverGapsButNotOverResidentPagesOrExtents) {
  std::vector<PageTable::Word> words(512);
  PageTable table(words);
  ASSERT_TRUE(table.begin_fill(PageNumber(20)));
  table.finish_fetch(PageNumber(20), PageTable::Arrival::kDirty);
  EXPECT_EQ(join_runs({300, 10, 5, 30, 240}, table),
            (std::vector<PageRun>{{PageNumber(5), 6}, {PageNumber(30), 211}, {PageNumber(300), 1}}));
}

TEST(PolicySim, OneSeedMakesOneTrace) {
  const Trace one = make_trace("boot-25", 3, kSmall), same = make_trace("boot-25", 3, kSmall),
              other = make_trace("boot-25", 4, kSmall);
  auto pages = [](const Trace& trace) {
    std::vector<uint32_t> all;
    for (Access access : trace.accesses) all.push_back(access.page);
    return all;
  };
  EXPECT_EQ(pages(one), pages(same));
  EXPECT_NE(pages(one), pages(other));
}

}  // namespace
}  // namespace hecaton::sim
