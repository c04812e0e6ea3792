#include "residency/clock_policy.h"

#include <gtest/gtest.h>

#include <vector>

namespace hecaton {
namespace {

struct Fixture {
  explicit Fixture(uint64_t pages) : words(pages), table(words), policy(table) {}
  void make_dirty(uint64_t page) {
    ASSERT_TRUE(table.begin_fill(PageNumber(page)));
    table.finish_fetch(PageNumber(page), PageTable::Arrival::kDirty);
  }
  std::vector<PageTable::Word> words;
  PageTable table;
  ClockPolicy policy;
};

TEST(ClockPolicy, GivesATouchedPageASecondChance) {
  Fixture f(512);
  for (uint64_t page = 10; page < 20; ++page) f.make_dirty(page);
  EXPECT_EQ(f.policy.next_victims().count, 0u);  // everything was just touched
  EXPECT_EQ(f.policy.next_victims(), (PageRun{PageNumber(10), 10}));
}

TEST(ClockPolicy, JoinsRunsOverWhatIsNotHereAndSplitsThemAtExtents) {
  Fixture f(600);
  for (uint64_t page = 250; page < 262; ++page) {
    if (page != 253) f.make_dirty(page);
    f.table.clear_referenced(PageNumber(page));
  }
  EXPECT_EQ(f.policy.next_victims(), (PageRun{PageNumber(250), 6}));
  EXPECT_EQ(f.policy.next_victims(), (PageRun{PageNumber(256), 6}));
}

TEST(ClockPolicy, LeavesBusyRemoteAndAbsentPagesAlone) {
  Fixture f(256);
  EXPECT_EQ(f.policy.next_victims().count, 0u);
  f.make_dirty(5);
  f.table.clear_referenced(PageNumber(5));
  ASSERT_TRUE(f.table.begin_leave(PageNumber(5)).has_value());
  EXPECT_EQ(f.policy.next_victims().count, 0u);
}

}  // namespace
}  // namespace hecaton
