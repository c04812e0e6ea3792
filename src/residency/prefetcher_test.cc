#include "residency/prefetcher.h"

#include <gtest/gtest.h>

#include <random>

namespace hecaton {
namespace {

TEST(Prefetcher, WaitsForASequenceBeforeItFetchesAhead) {
  Prefetcher prefetcher(10'000, 64, true);
  EXPECT_FALSE(prefetcher.on_fault(PageNumber(100)));
  EXPECT_FALSE(prefetcher.on_fault(PageNumber(101)));
  auto window = prefetcher.on_fault(PageNumber(102));
  ASSERT_TRUE(window);
  EXPECT_EQ(window->pages.first, PageNumber(103));
  EXPECT_GE(window->trigger, window->pages.first);
  EXPECT_LT(window->trigger, window->pages.end());
}

TEST(Prefetcher, GrowsAWindowThatIsUsed) {
  Prefetcher prefetcher(100'000, 64, true);
  prefetcher.on_fault(PageNumber(0));
  prefetcher.on_fault(PageNumber(1));
  auto window = prefetcher.on_fault(PageNumber(2));
  uint64_t last = 0;
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(window);
    EXPECT_GE(window->pages.count, last);
    last = window->pages.count;
    PageNumber end = window->pages.end();
    PageRun pages = window->pages;
    Prefetcher::Hit hit = prefetcher.on_trigger(window->trigger);
    EXPECT_EQ(hit.used, pages);
    window = hit.next;
    ASSERT_TRUE(window);
    EXPECT_EQ(window->pages.first, end);
  }
  EXPECT_EQ(last, 64u);
}

TEST(Prefetcher, StopsWhereItsWindowsGoToWaste) {
  Prefetcher prefetcher(1'000'000, 64, true);
  prefetcher.on_waste(64);
  int windows = 0;
  for (uint64_t start = 0; start < 500'000; start += 1000) {
    for (uint64_t i = 0; i < 5; ++i) windows += prefetcher.on_fault(PageNumber(start + i)).has_value();
  }
  EXPECT_EQ(windows, 0);
}

TEST(Prefetcher, TellsSeveralStreamsApart) {
  Prefetcher prefetcher(1'000'000, 32, true);
  int windows = 0;
  for (uint64_t i = 0; i < 3; ++i) {
    for (uint64_t stream = 0; stream < 8; ++stream) {
      windows += prefetcher.on_fault(PageNumber(stream * 50'000 + i)).has_value();
    }
  }
  EXPECT_EQ(windows, 8);
}

TEST(Prefetcher, RandomFaultsFetchNothing) {
  Prefetcher prefetcher(1'000'000, 64, true);
  std::mt19937_64 random(7);
  int windows = 0;
  for (int i = 0; i < 10'000; ++i) windows += prefetcher.on_fault(PageNumber(random() % 1'000'000)).has_value();
  EXPECT_LT(windows, 5);
}

TEST(Prefetcher, NeverReachesBeyondTheRegion) {
  Prefetcher prefetcher(105, 64, false);
  prefetcher.on_fault(PageNumber(100));
  auto window = prefetcher.on_fault(PageNumber(101));
  ASSERT_TRUE(window);
  EXPECT_EQ(window->pages, (PageRun{PageNumber(102), 3}));
  EXPECT_FALSE(prefetcher.on_trigger(window->trigger).next);
}

TEST(Prefetcher, IsSilentWhenTurnedOff) {
  Prefetcher prefetcher(1000, 0, true);
  for (uint64_t i = 0; i < 50; ++i) EXPECT_FALSE(prefetcher.on_fault(PageNumber(i)));
}

}  // namespace
}  // namespace hecaton
