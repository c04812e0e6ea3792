#include "residency/prefetcher.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace hecaton {
namespace {

Prefetcher::Limits limits(uint64_t region_pages, uint64_t window_pages = 64) {
  return {.region_pages = region_pages, .window_pages = window_pages};
}

std::vector<PrefetchWindow> windows_of(Prefetcher& prefetcher) {
  std::vector<PrefetchWindow> windows;
  while (auto window = prefetcher.next_window()) windows.push_back(*window);
  return windows;
}

std::vector<PrefetchWindow> fault(Prefetcher& prefetcher, uint64_t page) {
  prefetcher.on_fault(PageNumber(page));
  return windows_of(prefetcher);
}

uint64_t pages_of(const std::vector<PrefetchWindow>& windows) {
  uint64_t pages = 0;
  for (const PrefetchWindow& window : windows) pages += window.count;
  return pages;
}

// A reader with memory that never leaves: what it touches faults unless it was prefetched, in full and in time.
class Reader {
 public:
  explicit Reader(Prefetcher& prefetcher) : prefetcher_(prefetcher) {}

  void read(uint64_t page) {
    ++reads_;
    if (!resident_.contains(page)) {
      ++faults_;
      prefetcher_.on_fault(PageNumber(page));
    } else if (std::exchange(resident_[page], false)) {
      prefetcher_.on_trigger(PageNumber(page));
    }
    resident_[page] = false;
    for (const PrefetchWindow& window : windows_of(prefetcher_)) {
      largest_ = std::max(largest_, window.count);
      for (uint64_t i = 0; i < window.count; ++i) {
        prefetched_ += resident_.emplace(window.page(i).value, i == window.trigger).second;
      }
    }
  }
  void scan(int64_t from, int64_t stride, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) read(static_cast<uint64_t>(from + stride * static_cast<int64_t>(i)));
  }
  uint64_t faults() const { return faults_; }
  uint64_t prefetched() const { return prefetched_; }
  uint64_t largest() const { return largest_; }

 private:
  Prefetcher& prefetcher_;
  std::map<uint64_t, bool> resident_;  // true: an untouched trigger
  uint64_t reads_ = 0, faults_ = 0, prefetched_ = 0, largest_ = 0;
};

TEST(Prefetcher, WaitsForASequenceBeforeItFetchesAhead) {
  Prefetcher prefetcher(limits(10'000));
  EXPECT_TRUE(fault(prefetcher, 100).empty());
  EXPECT_TRUE(fault(prefetcher, 101).empty());
  auto windows = fault(prefetcher, 102);
  ASSERT_FALSE(windows.empty());
  EXPECT_EQ(windows[0].first, PageNumber(103));
  EXPECT_EQ(windows[0].stride, 1);
  EXPECT_LT(windows[0].trigger, windows[0].count);
}

TEST(Prefetcher, GrowsAWindowThatIsUsedAndKeepsTwoAhead) {
  Prefetcher prefetcher(limits(100'000));
  fault(prefetcher, 0);
  fault(prefetcher, 1);
  std::vector<PrefetchWindow> waiting = fault(prefetcher, 2);
  uint64_t last = 0;
  for (size_t i = 0; i < 12; ++i) {
    ASSERT_GE(waiting.size(), i + 2);
    EXPECT_GE(waiting[i].count, last);
    last = waiting[i].count;
    EXPECT_EQ(waiting[i + 1].first, waiting[i].page(last)) << "a hole between two windows";
    prefetcher.on_trigger(waiting[i].page(waiting[i].trigger));
    for (const PrefetchWindow& window : windows_of(prefetcher)) waiting.push_back(window);
  }
  EXPECT_EQ(last, 64u);
}

TEST(Prefetcher, FollowsEveryStrideBothWays) {
  for (int64_t stride : {1, 2, 3, 16, 64}) {
    for (int64_t direction : {1, -1}) {
      Prefetcher prefetcher(limits(1'000'000, 256));
      Reader reader(prefetcher);
      reader.scan(500'000, stride * direction, 5000);
      EXPECT_LT(reader.faults(), 6u) << stride * direction;
      EXPECT_EQ(reader.largest(), 256u) << stride * direction;
      EXPECT_LT(reader.prefetched(), 5000u + 4 * 256) << "pages between those of the stride were fetched";
    }
  }
}

TEST(Prefetcher, TellsWhichPagesItsReaderHasPassed) {
  for (int64_t stride : {1, -2}) {
    Prefetcher prefetcher(limits(10'000));
    std::vector<PrefetchWindow> waiting;
    for (int64_t page = 5000; waiting.empty() && page > 4900; page += stride) {
      waiting = fault(prefetcher, static_cast<uint64_t>(page));
    }
    ASSERT_GE(waiting.size(), 2u);
    PageNumber next = waiting[0].first;
    for (const PrefetchWindow& window : waiting) {
      auto passed = prefetcher.on_trigger(window.page(window.trigger));
      ASSERT_TRUE(passed);
      EXPECT_EQ(passed->first, next);
      EXPECT_EQ(passed->page(passed->count - 1), window.page(window.trigger));
      next = passed->page(passed->count);
    }
    EXPECT_FALSE(prefetcher.on_trigger(waiting[1].page(waiting[1].trigger))) << "told twice";
  }
}

TEST(Prefetcher, TakesNoNoticeOfAPageThatIsMissingFromTheSequence) {
  Prefetcher prefetcher(limits(10'000));
  fault(prefetcher, 100);
  fault(prefetcher, 101);
  auto windows = fault(prefetcher, 104);
  ASSERT_FALSE(windows.empty());
  EXPECT_EQ(windows[0].first, PageNumber(105));
}

TEST(Prefetcher, TellsSeveralStreamsApart) {
  Prefetcher prefetcher(limits(10'000'000));
  Reader reader(prefetcher);
  const std::vector<int64_t> strides{1, -1, 2, -2, 3, 16, -16, 7, 64, 1, 1, -3};
  for (int64_t i = 0; i < 500; ++i) {
    for (size_t stream = 0; stream < strides.size(); ++stream) {
      reader.read(static_cast<uint64_t>(static_cast<int64_t>(500'000 * (stream + 1)) + i * strides[stream]));
    }
  }
  EXPECT_LT(reader.faults(), strides.size() * 6);
}

TEST(Prefetcher, AStreamOutlivesTheRandomFaultsBesideIt) {
  Prefetcher prefetcher(limits(1'000'000));
  Reader reader(prefetcher);
  std::mt19937_64 random(7);
  reader.scan(0, 1, 200);
  const uint64_t before = reader.faults();
  for (uint64_t i = 200; i < 3000; ++i) {
    reader.read(i);
    for (int k = 0; k < 3; ++k) prefetcher.on_fault(PageNumber(random() % 1'000'000));
  }
  EXPECT_EQ(reader.faults(), before);
}

TEST(Prefetcher, RandomFaultsFetchNothing) {
  Prefetcher prefetcher(limits(65'536, 256));
  Reader(prefetcher).scan(0, 1, 20'000);  // streams of the past are no reason
  std::mt19937_64 random(7);
  uint64_t pages = 0;
  for (int i = 0; i < 20'000; ++i) pages += pages_of(fault(prefetcher, random() % 65'536));
  EXPECT_LT(pages, 100u);
}

// Runs of five pages: long enough to look like a stream, and then over.
uint64_t pages_for_short_runs(Prefetcher& prefetcher, uint64_t from, uint64_t runs) {
  uint64_t pages = 0;
  for (uint64_t run = 0; run < runs; ++run) {
    for (uint64_t i = 0; i < 5; ++i) pages += pages_of(fault(prefetcher, from + run * 1000 + i));
  }
  return pages;
}

TEST(Prefetcher, PausesWhereItsWindowsGoToWaste) {
  Prefetcher prefetcher(limits(10'000'000));
  EXPECT_FALSE(prefetcher.paused());
  EXPECT_GT(pages_for_short_runs(prefetcher, 0, 100), 0u);
  EXPECT_TRUE(prefetcher.paused());
  EXPECT_EQ(pages_for_short_runs(prefetcher, 1'000'000, 1000), 0u);
}

TEST(Prefetcher, LearnsFromTriggersThatLeftUntouched) {
  Prefetcher prefetcher(limits(10'000));
  prefetcher.on_waste(20);
  EXPECT_TRUE(prefetcher.paused());
  EXPECT_EQ(pages_for_short_runs(prefetcher, 0, 10), 0u);
}

TEST(Prefetcher, ComesBackWhenAStreamAppears) {
  Prefetcher prefetcher(limits(10'000'000));
  pages_for_short_runs(prefetcher, 0, 200);
  ASSERT_TRUE(prefetcher.paused());
  Reader reader(prefetcher);
  reader.scan(5'000'000, 1, 2000);
  EXPECT_FALSE(prefetcher.paused());
  EXPECT_LT(reader.faults(), 60u);
}

TEST(Prefetcher, AFaultOnAPageOnItsWayKeepsTheStreamGoing) {
  Prefetcher prefetcher(limits(10'000));
  fault(prefetcher, 0);
  fault(prefetcher, 1);
  auto windows = fault(prefetcher, 2);
  ASSERT_GE(windows.size(), 2u);
  EXPECT_TRUE(prefetcher.on_late(windows[1].page(2)));
  EXPECT_FALSE(windows_of(prefetcher).empty());
  EXPECT_FALSE(prefetcher.on_late(PageNumber(9000))) << "not in a window of ours";
}

TEST(Prefetcher, FindsAReaderAgainWhoseWindowsWereLost) {
  Prefetcher prefetcher(limits(100'000));
  Reader(prefetcher).scan(0, 1, 1000);
  uint64_t pages = 0;
  for (uint64_t page = 1000; page < 1004; ++page) pages += pages_of(fault(prefetcher, page));
  EXPECT_GE(pages, 128u) << "it begins small again";
}

PrefetchWindow newest_window(const Prefetcher::Stream& stream) {
  return stream.windows[(stream.opened - 1) % stream.windows.size()];
}

TEST(Prefetcher, GoesOnWithAStreamThatAnotherFollowedToHere) {
  for (int64_t stride : {1, -3}) {
    Prefetcher before(limits(100'000)), here(limits(100'000));
    Reader(before).scan(50'000, stride, 1000);
    const PrefetchWindow newest = newest_window(before.last_stream());
    ASSERT_EQ(64u, newest.count);
    here.adopt(before.last_stream());
    EXPECT_TRUE(here.on_trigger(newest.page(newest.trigger)));
    const std::vector<PrefetchWindow> windows = windows_of(here);
    ASSERT_FALSE(windows.empty());
    EXPECT_EQ(newest.page(newest.count), windows.front().first);
    EXPECT_EQ(stride, windows.front().stride);
    EXPECT_EQ(64u, windows.front().count);
  }
}

// A scan over stripes of 512 pages that two prefetchers have in turn: how many pages were not there in time.
uint64_t faults_of_scan_over_stripes(bool handed, uint64_t pages) {
  std::vector<Prefetcher> prefetchers(2, Prefetcher(limits(pages)));
  auto owner = [](uint64_t page) { return page / 512 % 2; };
  std::map<uint64_t, bool> resident;  // and whether it is a trigger
  uint64_t faults = 0;
  for (uint64_t page = 0; page < pages; ++page) {
    Prefetcher& here = prefetchers[owner(page)];
    if (!resident.contains(page)) {
      ++faults;
      here.on_fault(PageNumber(page));
    } else if (resident[page]) {
      here.on_trigger(PageNumber(page));
    }
    while (auto window = here.next_window()) {
      for (uint64_t i = 0; i < window->count; ++i) resident.emplace(window->page(i).value, i == window->trigger);
      const uint64_t next = owner(window->page(window->trigger).value);
      if (handed && next != owner(page)) prefetchers[next].adopt(here.last_stream());
    }
  }
  return faults;
}

TEST(Prefetcher, AScanOverStripesOfSeveralFaultsOnceIfItIsHandedOn) {
  EXPECT_LE(faults_of_scan_over_stripes(true, 20'000), 4u);
  EXPECT_GE(faults_of_scan_over_stripes(false, 20'000), 80u) << "then there would be no need to hand it on";
}

TEST(Prefetcher, AnOlderStateOfAStreamTakesItNotBack) {
  Prefetcher before(limits(100'000)), here(limits(100'000));
  Reader(before).scan(0, 1, 1000);
  const Prefetcher::Stream old = before.last_stream();
  const PrefetchWindow newest = newest_window(old);
  here.adopt(old);
  here.on_trigger(newest.page(newest.trigger));
  const std::vector<PrefetchWindow> windows = windows_of(here);
  ASSERT_FALSE(windows.empty());
  here.adopt(old);
  here.on_trigger(windows.back().page(windows.back().trigger));
  const std::vector<PrefetchWindow> further = windows_of(here);
  ASSERT_FALSE(further.empty());
  EXPECT_EQ(windows.back().page(windows.back().count), further.front().first);
}

TEST(Prefetcher, NeverReachesBeyondTheRegion) {
  for (int64_t stride : {1, 3, -1, -3, 64, -64}) {
    Prefetcher prefetcher(limits(1000, 256));
    uint64_t windows = 0;
    int64_t page = stride > 0 ? 0 : 999;
    std::vector<PrefetchWindow> due;
    for (; page >= 0 && page < 1000; page += stride) {
      prefetcher.on_fault(PageNumber(static_cast<uint64_t>(page)));
      for (const PrefetchWindow& window : windows_of(prefetcher)) {
        ++windows;
        ASSERT_GE(window.count, 1u);
        EXPECT_LT(window.first.value, 1000u);
        EXPECT_LT(window.page(window.count - 1).value, 1000u) << "stride " << stride;
        due.push_back(window);
      }
      for (size_t i = 0; i < due.size() && i < 100; ++i) {
        prefetcher.on_trigger(due[i].page(due[i].trigger));
        for (const PrefetchWindow& window : windows_of(prefetcher)) due.push_back(window);
      }
      for (const PrefetchWindow& window : due) ASSERT_LT(window.page(window.count - 1).value, 1000u);
    }
    EXPECT_GT(windows, 0u) << "stride " << stride;
  }
}

TEST(Prefetcher, AllStreamsTogetherStayWithinTheRoomAhead) {
  Prefetcher prefetcher({.region_pages = 10'000'000, .window_pages = 256, .ahead_pages = 600});
  Reader reader(prefetcher);
  for (uint64_t i = 0; i < 2000; ++i) {
    for (uint64_t stream = 0; stream < 4; ++stream) reader.read(stream * 100'000 + i);
  }
  EXPECT_GT(reader.largest(), 8u);
  // 200 while the first stream was alone.
  EXPECT_LE(reader.prefetched(), 4 * 2000u + 600);
  EXPECT_LT(reader.faults(), 40u);
}

TEST(Prefetcher, AFixedWindowStaysAsItIs) {
  Prefetcher prefetcher({.region_pages = 100'000, .window_pages = 20, .adaptive = false});
  prefetcher.on_waste(100);
  EXPECT_FALSE(prefetcher.paused());
  fault(prefetcher, 10);
  auto windows = fault(prefetcher, 11);
  ASSERT_FALSE(windows.empty());
  for (const PrefetchWindow& window : windows) EXPECT_EQ(window.count, 20u);
}

TEST(Prefetcher, IsSilentWhenTurnedOff) {
  Prefetcher prefetcher(limits(1000, 0));
  for (uint64_t i = 0; i < 50; ++i) EXPECT_TRUE(fault(prefetcher, i).empty());
}

}  // namespace
}  // namespace hecaton
