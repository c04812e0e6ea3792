#include "residency/eviction_policy.h"

#include <gtest/gtest.h>

#include <vector>

namespace hecaton {
namespace {

struct Fixture {
  explicit Fixture(uint64_t pages, uint64_t budget = 1024) : words(pages), table(words), policy(table, budget) {}

  void come(uint64_t page) {
    if (table.get(PageNumber(page)).state == PageState::kRemote) {
      ASSERT_TRUE(table.begin_fetch(PageNumber(page)));
    } else {
      ASSERT_TRUE(table.begin_fill(PageNumber(page)));
    }
    table.finish_fetch(PageNumber(page), PageTable::Arrival::kDirty);
  }
  void come(uint64_t first, uint64_t end) {
    for (uint64_t page = first; page < end; ++page) come(page);
  }
  void leave(PageRun run) {
    for (PageNumber page = run.first; page < run.end(); ++page) {
      std::optional<PageTable::Leave> leave = table.begin_leave(page);
      if (!leave) continue;
      table.release(page);
      ASSERT_TRUE(table.commit_remote(page, leave->version));
      table.release(page);
    }
  }
  // Evicts all that may leave.
  void leave_all() {
    for (PageRun run = policy.next_victims(); run.count > 0; run = policy.next_victims()) leave(run);
  }
  bool resident(uint64_t page) const { return table.get(PageNumber(page)).resident(); }

  std::vector<PageTable::Word> words;
  PageTable table;
  EvictionPolicy policy;
};

TEST(EvictionPolicy, FindsNothingInATableOfAbsentPages) {
  Fixture f(4096);
  EXPECT_EQ(f.policy.next_victims().count, 0u);
}

TEST(EvictionPolicy, TakesScatteredPagesOfAnExtentInOneRun) {
  Fixture f(1024);
  for (uint64_t page : {259, 300, 301, 490}) f.come(page);
  EXPECT_EQ(f.policy.next_victims(), (PageRun{PageNumber(259), 490 - 259 + 1}));
}

TEST(EvictionPolicy, KeepsRunsWithinAnExtent) {
  Fixture f(600);
  f.come(200, 600);
  std::vector<PageRun> runs;
  for (int i = 0; i < 3; ++i) f.leave(runs.emplace_back(f.policy.next_victims()));
  EXPECT_EQ(runs, (std::vector<PageRun>{{PageNumber(200), 56}, {PageNumber(256), 256}, {PageNumber(512), 88}}));
}

TEST(EvictionPolicy, EndsARunAtAPageInSomebodysHands) {
  Fixture f(256);
  f.come(0, 200);
  ASSERT_TRUE(f.table.begin_dirty(PageNumber(50)));   // busy
  ASSERT_TRUE(f.table.begin_leave(PageNumber(100)));  // Leaving
  f.table.release(PageNumber(100));
  ASSERT_TRUE(f.table.begin_fill(PageNumber(220)));  // Fetching
  EXPECT_EQ(f.policy.next_victims(), (PageRun{PageNumber(0), 50}));
  EXPECT_EQ(f.policy.next_victims(), (PageRun{PageNumber(51), 49}));
  EXPECT_EQ(f.policy.next_victims(), (PageRun{PageNumber(101), 99}));
}

TEST(EvictionPolicy, TakesEvenAnOnlyPageThatWasJustWrittenTo) {
  Fixture f(100'000);
  f.come(70'000);
  ASSERT_TRUE(f.table.begin_dirty(PageNumber(70'000)));
  f.table.release(PageNumber(70'000));
  EXPECT_EQ(f.policy.next_victims(), (PageRun{PageNumber(70'000), 1}));
}

TEST(EvictionPolicy, FindsPagesThatComeWhileOtherRunsOfTheExtentLeave) {
  Fixture f(512);
  f.come(0, 100);
  ASSERT_TRUE(f.table.begin_dirty(PageNumber(50)));
  f.leave(f.policy.next_victims());
  f.come(10);
  f.table.release(PageNumber(50));
  f.leave_all();
  EXPECT_FALSE(f.resident(10));
  EXPECT_FALSE(f.resident(50));
}

TEST(EvictionPolicy, LooksAgainForAPageThatWasTakenBack) {
  Fixture f(512);
  f.come(7);
  ASSERT_EQ(f.policy.next_victims().count, 1u);
  ASSERT_TRUE(f.table.begin_leave(PageNumber(7)));
  f.table.release(PageNumber(7));
  EXPECT_EQ(f.policy.next_victims().count, 0u);
  ASSERT_TRUE(f.table.begin_dirty(PageNumber(7)));
  f.table.release(PageNumber(7));
  EXPECT_EQ(f.policy.next_victims(), (PageRun{PageNumber(7), 1}));
}

// Pages that came back, among pages that came once.
struct ReturningPages : testing::Test, Fixture {
  ReturningPages() : Fixture(2048) {}
  // They come back twice, after an eviction of everything each time.
  void return_twice(uint64_t first, uint64_t end) {
    for (int i = 0; i < 3; ++i) {
      come(first, end);
      leave_all();
    }
    come(first, end);
  }
};

TEST_F(ReturningPages, StayTogetherWhileTheirNeighboursLeave) {
  return_twice(64, 100);
  come(0, 64);
  come(100, 256);
  std::vector<PageRun> runs{policy.next_victims(), policy.next_victims()};
  EXPECT_EQ(runs, (std::vector<PageRun>{{PageNumber(0), 64}, {PageNumber(100), 156}}));
}

TEST_F(ReturningPages, ALoneOneLeavesRatherThanBreakARun) {
  return_twice(64, 65);
  come(0, 64);
  come(65, 256);
  EXPECT_EQ(policy.next_victims(), (PageRun{PageNumber(0), 256}));
}

TEST_F(ReturningPages, LeaveInTheEndIfTheyDoNotComeBack) {
  return_twice(64, 100);
  come(0, 64);
  leave(policy.next_victims());
  EXPECT_TRUE(resident(64));
  leave_all();
  EXPECT_FALSE(resident(64));
}

TEST_F(ReturningPages, StayLongerThanThoseThatWereOnlyFetchedAhead) {
  return_twice(0, 200);
  leave_all();
  come(0, 100);
  for (PageNumber page(100); page.value < 200; ++page) {
    ASSERT_TRUE(table.begin_fetch(page));
    table.finish_fetch(page, PageTable::Arrival::kPrefetched);
  }
  EXPECT_EQ(policy.next_victims(), (PageRun{PageNumber(100), 100}));
}

TEST(EvictionPolicy, NeedsNoMoreMemoryThanTheBound) {
  // Beside these, 3 bytes an extent are spent on placement and discards.
  EXPECT_LE(EvictionPolicy::kBytesPerExtent + PageTable::kBytesPerExtent + 3, 64u);
}

}  // namespace
}  // namespace hecaton
