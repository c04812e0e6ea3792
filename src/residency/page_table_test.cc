#include "residency/page_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace hecaton {
namespace {

constexpr PageNumber kPage(3);

struct Fixture : testing::Test {
  std::vector<PageTable::Word> words{std::vector<PageTable::Word>(8)};
  PageTable table{words};

  void make_dirty() {
    ASSERT_TRUE(table.begin_fill(kPage));
    table.finish_fetch(kPage, PageTable::Arrival::kDirty);
  }
  PageTable::Leave make_leaving() {
    PageTable::Leave leave = table.begin_leave(kPage).value();
    table.release(kPage);
    return leave;
  }
  void make_remote() {
    make_dirty();
    PageTable::Leave leave = make_leaving();
    table.mark_held(kPage);
    ASSERT_TRUE(table.commit_remote(kPage, leave.version));
    table.release(kPage);
  }
  void come_back() {
    ASSERT_TRUE(table.begin_fetch(kPage));
    table.finish_fetch(kPage, PageTable::Arrival::kClean);
  }
  void leave_again() {
    PageTable::Leave leave = make_leaving();
    ASSERT_TRUE(table.commit_remote(kPage, leave.version));
    table.release(kPage);
  }
};
using PageTableTest = Fixture;

TEST_F(PageTableTest, StartsAbsent) {
  EXPECT_EQ(table.get(kPage).state, PageState::kAbsent);
  EXPECT_EQ(table.get(kPage).version, 0u);
  EXPECT_FALSE(table.begin_fetch(kPage));
}

TEST_F(PageTableTest, APageThatIsWrittenWhileLeavingIsTakenBack) {
  make_dirty();
  PageTable::Leave leave = make_leaving();
  EXPECT_TRUE(leave.dirty);
  ASSERT_TRUE(table.begin_dirty(kPage));
  table.release(kPage);
  EXPECT_FALSE(table.commit_remote(kPage, leave.version));
  EXPECT_EQ(table.get(kPage).state, PageState::kDirty);
}

TEST_F(PageTableTest, ALateAcknowledgementOfAnOlderVersionCommitsNothing) {
  make_dirty();
  PageTable::Leave first = make_leaving();
  ASSERT_TRUE(table.begin_dirty(kPage));
  table.release(kPage);
  PageTable::Leave second = make_leaving();
  EXPECT_NE(first.version, second.version);
  EXPECT_FALSE(table.commit_remote(kPage, first.version));
  EXPECT_TRUE(table.commit_remote(kPage, second.version));
}

TEST_F(PageTableTest, NobodyTouchesABusyPage) {
  make_dirty();
  ASSERT_TRUE(table.begin_dirty(kPage));
  EXPECT_FALSE(table.begin_leave(kPage).has_value());
  EXPECT_FALSE(table.begin_dirty(kPage));
  EXPECT_FALSE(table.begin_map(kPage));
  EXPECT_FALSE(table.begin_discard(kPage).has_value());
  table.release(kPage);
  EXPECT_TRUE(table.begin_leave(kPage).has_value());
}

TEST_F(PageTableTest, APageBetweenRemoteAndItsPunchCannotBeFetched) {
  make_dirty();
  PageTable::Leave leave = make_leaving();
  ASSERT_TRUE(table.commit_remote(kPage, leave.version));
  EXPECT_FALSE(table.begin_fetch(kPage));  // else its bytes could be punched after they were put in place
  table.release(kPage);
  EXPECT_TRUE(table.begin_fetch(kPage));
}

TEST_F(PageTableTest, OnlyOneThreadFetches) {
  make_remote();
  EXPECT_TRUE(table.begin_fetch(kPage));
  EXPECT_FALSE(table.begin_fetch(kPage));
  table.finish_fetch(kPage, PageTable::Arrival::kClean);
  EXPECT_EQ(table.get(kPage).state, PageState::kClean);
}

TEST_F(PageTableTest, ACleanPageLeavesWithItsVersionUnchanged) {
  make_remote();
  uint32_t version = table.get(kPage).version;
  ASSERT_TRUE(table.begin_fetch(kPage));
  table.finish_fetch(kPage, PageTable::Arrival::kClean);
  PageTable::Leave leave = make_leaving();
  EXPECT_FALSE(leave.dirty);
  EXPECT_EQ(leave.version, version);
}

TEST_F(PageTableTest, VersionsGoUpAndSkipZero) {
  words[kPage.value] = 0x1fffffu << 11 | 4;  // dirty, the last version
  EXPECT_EQ(table.begin_leave(kPage)->version, 1u);
}

TEST_F(PageTableTest, ADiscardedPageIsToldToItsDonorOnce) {
  make_remote();
  EXPECT_FALSE(table.take_discarded(kPage));
  EXPECT_EQ(table.begin_discard(kPage), PageState::kRemote);
  EXPECT_FALSE(table.take_discarded(kPage));  // still busy
  table.release(kPage);
  EXPECT_EQ(table.get(kPage).state, PageState::kAbsent);
  EXPECT_TRUE(table.take_discarded(kPage));
  EXPECT_FALSE(table.take_discarded(kPage));
}

TEST_F(PageTableTest, AFetchCannotBeDiscardedUnderneath) {
  make_remote();
  ASSERT_TRUE(table.begin_fetch(kPage));
  EXPECT_FALSE(table.begin_discard(kPage).has_value());
}

TEST_F(PageTableTest, ATriggerIsReportedWhenItLeavesUntouchedAndOnlyThen) {
  make_remote();
  ASSERT_TRUE(table.begin_fetch(kPage));
  table.finish_fetch(kPage, PageTable::Arrival::kPrefetchedTrigger);
  EXPECT_TRUE(table.get(kPage).trigger);
  ASSERT_TRUE(table.begin_map(kPage));
  table.release(kPage);
  EXPECT_FALSE(table.begin_leave(kPage)->trigger);
}

TEST_F(PageTableTest, APrefetchedPageCountsOnceAndOnlyWhileItIsResident) {
  make_remote();
  ASSERT_TRUE(table.begin_fetch(kPage));
  table.finish_fetch(kPage, PageTable::Arrival::kPrefetched);
  EXPECT_TRUE(table.take_prefetched(kPage));
  EXPECT_FALSE(table.take_prefetched(kPage));
}

TEST_F(PageTableTest, APageRisesALevelEachTimeItComesBackBeforeTheNextLook) {
  make_remote();
  for (uint8_t level : {1, 2, 3, 3}) {
    come_back();
    EXPECT_EQ(table.look(kPage, true).level, level);
    EXPECT_EQ(table.look(kPage, true).level, level);  // by looking alone it changes nothing
    leave_again();
  }
}

TEST_F(PageTableTest, APageFallsALevelForEachLookThatItStaysAway) {
  make_remote();
  for (int i = 0; i < 2; ++i) {
    come_back();
    table.look(kPage, true);
    leave_again();
  }
  EXPECT_EQ(table.look(kPage, true).level, 2u);  // it has only just left
  EXPECT_EQ(table.look(kPage, true).level, 1u);
  EXPECT_EQ(table.look(kPage, true).level, 0u);
  EXPECT_EQ(table.look(kPage, true).level, 0u);
}

TEST_F(PageTableTest, APageThatComesBackLateFallsALevel) {
  make_remote();
  for (int i = 0; i < 2; ++i) {
    come_back();
    table.look(kPage, true);
    leave_again();
  }
  come_back();
  EXPECT_EQ(table.look(kPage, false).level, 1u);
}

TEST_F(PageTableTest, APageThatIsFetchedAheadDoesNotRise) {
  make_remote();
  ASSERT_TRUE(table.begin_fetch(kPage));
  table.finish_fetch(kPage, PageTable::Arrival::kPrefetched);
  EXPECT_EQ(table.look(kPage, true).level, 0u);
}

TEST_F(PageTableTest, APageThatIsTakenBackWhileLeavingRisesToo) {
  make_dirty();
  make_leaving();
  ASSERT_TRUE(table.begin_dirty(kPage));
  table.release(kPage);
  EXPECT_EQ(table.look(kPage, true).level, 1u);
}

TEST_F(PageTableTest, AUseIsReportedByOneLookOnly) {
  make_dirty();
  EXPECT_FALSE(table.look(kPage, true).referenced);  // coming is no use
  ASSERT_TRUE(table.begin_dirty(kPage));
  table.release(kPage);
  EXPECT_TRUE(table.look(kPage, true).referenced);
  EXPECT_FALSE(table.look(kPage, true).referenced);
}

TEST_F(PageTableTest, ADiscardedPageBeginsAnew) {
  make_remote();
  come_back();
  table.look(kPage, true);
  ASSERT_TRUE(table.begin_discard(kPage).has_value());
  table.release(kPage);
  make_dirty();
  EXPECT_EQ(table.look(kPage, true).level, 0u);
}

std::vector<uint64_t> arrivals(PageTable& table) {
  std::vector<uint64_t> extents;
  table.take_arrivals([&](ExtentNumber extent) { extents.push_back(extent.value); });
  return extents;
}

TEST(PageTableArrivals, AnExtentIsToldOnceUntilItIsForgotten) {
  std::vector<PageTable::Word> words(3 * kPagesPerExtent);
  PageTable table(words);
  auto come = [&](uint64_t page) {
    ASSERT_TRUE(table.begin_fill(PageNumber(page)));
    table.finish_fetch(PageNumber(page), PageTable::Arrival::kDirty);
  };
  come(5);
  come(2 * kPagesPerExtent);
  come(6);
  EXPECT_EQ(arrivals(table), (std::vector<uint64_t>{2, 0}));
  come(7);
  EXPECT_EQ(arrivals(table), std::vector<uint64_t>{});
  table.forget_arrivals(ExtentNumber(0));
  EXPECT_TRUE(table.keep_arrivals(ExtentNumber(0)));
  come(8);
  EXPECT_EQ(arrivals(table), std::vector<uint64_t>{});
  table.forget_arrivals(ExtentNumber(0));
  come(9);
  EXPECT_FALSE(table.keep_arrivals(ExtentNumber(0)));
  EXPECT_EQ(arrivals(table), std::vector<uint64_t>{0});
}

// Two threads bring pages in while a third takes what came: whatever is resident in the end was told, or is.
TEST(PageTableArrivals, NoneIsLostBetweenThreads) {
  constexpr uint64_t kExtents = 8;
  std::vector<PageTable::Word> words(kExtents * kPagesPerExtent);
  PageTable table(words);
  std::atomic<int> running{2};
  auto bring = [&](uint64_t odd) {
    for (uint64_t i = odd; i < words.size(); i += 2) {
      const PageNumber page(i % kExtents * kPagesPerExtent + i / kExtents);
      ASSERT_TRUE(table.begin_fill(page));
      table.finish_fetch(page, PageTable::Arrival::kDirty);
    }
    --running;
  };
  std::thread first(bring, 0), second(bring, 1);
  std::vector<bool> seen(words.size());
  auto look = [&](ExtentNumber extent) {
    table.forget_arrivals(extent);
    for (uint64_t i = 0; i < kPagesPerExtent; ++i) {
      const PageNumber page(extent.value * kPagesPerExtent + i);
      if (table.look(page, true).resident()) seen[page.value] = true;
    }
  };
  while (running.load() > 0) table.take_arrivals(look);
  first.join();
  second.join();
  table.take_arrivals(look);
  EXPECT_EQ(std::count(seen.begin(), seen.end(), false), 0);
}

// One thread takes the page back while another commits it: exactly one of them wins, every time.
TEST_F(PageTableTest, TakingBackAndCommittingExcludeEachOther) {
  make_dirty();
  for (int round = 0; round < 2000; ++round) {
    PageTable::Leave leave = make_leaving();
    bool taken = false, committed = false;
    std::thread guest([&] { taken = table.begin_dirty(kPage); });
    committed = table.commit_remote(kPage, leave.version);
    guest.join();
    ASSERT_NE(taken, committed);
    table.release(kPage);
    if (committed) {
      ASSERT_TRUE(table.begin_fetch(kPage));
      table.finish_fetch(kPage, PageTable::Arrival::kDirty);
    }
  }
}

TEST_F(PageTableTest, AGapIsInNobodyElsesHandsUntilItIsReleased) {
  ASSERT_TRUE(table.begin_gap(kPage));
  EXPECT_FALSE(table.begin_fill(kPage));
  EXPECT_FALSE(table.begin_gap(kPage));
  table.release(kPage);
  EXPECT_TRUE(table.begin_fill(kPage));
  EXPECT_FALSE(table.begin_gap(kPage)) << "a page on its way is no gap";
}

TEST_F(PageTableTest, APageThatIsWrittenBackAheadOfNeedStaysAndIsClean) {
  make_dirty();
  PageTable::Leave leave = make_leaving();
  ASSERT_TRUE(table.commit_clean(kPage, leave.version));
  EXPECT_EQ(table.get(kPage).state, PageState::kClean);
  EXPECT_FALSE(table.begin_leave(kPage)->dirty) << "it need not be sent again";
}

TEST_F(PageTableTest, AWriteDuringTheWriteBackKeepsThePageDirty) {
  make_dirty();
  PageTable::Leave leave = make_leaving();
  ASSERT_TRUE(table.begin_dirty(kPage));
  table.release(kPage);
  EXPECT_FALSE(table.commit_clean(kPage, leave.version));
  EXPECT_EQ(table.get(kPage).state, PageState::kDirty);
}

// --- recovery, in the order of ADR 11's table

TEST_F(PageTableTest, RecoveryOfAFillGoesByWhetherThePageIsThere) {
  ASSERT_TRUE(table.begin_fill(kPage));
  EXPECT_FALSE(table.recover(kPage, false));
  EXPECT_EQ(table.get(kPage).state, PageState::kAbsent);
  ASSERT_TRUE(table.begin_fill(kPage));
  EXPECT_FALSE(table.recover(kPage, true));
  EXPECT_EQ(table.get(kPage).state, PageState::kDirty);
}

TEST_F(PageTableTest, RecoveryDropsAFetchedPageUnlessTheGuestCouldWriteToIt) {
  make_remote();
  const uint32_t version = table.get(kPage).version;
  ASSERT_TRUE(table.begin_fetch(kPage));
  EXPECT_TRUE(table.recover(kPage, true)) << "perhaps half of it: to be punched";
  EXPECT_EQ(table.get(kPage).state, PageState::kRemote);
  ASSERT_TRUE(table.begin_fetch(kPage));
  table.mark_writable(kPage);
  EXPECT_FALSE(table.recover(kPage, false));
  EXPECT_EQ(table.get(kPage).state, PageState::kRemote) << "the call did not happen";
  EXPECT_FALSE(table.get(kPage).trigger);
  ASSERT_TRUE(table.begin_fetch(kPage));
  table.mark_writable(kPage);
  EXPECT_FALSE(table.recover(kPage, true));
  EXPECT_EQ(table.get(kPage).state, PageState::kDirty) << "the guest may have written";
  EXPECT_EQ(table.get(kPage).version, version);
}

TEST_F(PageTableTest, RecoveryKeepsALeavingPageAndItsNextVersion) {
  make_dirty();
  const PageTable::Leave leave = table.begin_leave(kPage).value();
  EXPECT_FALSE(table.recover(kPage, true));
  EXPECT_EQ(table.get(kPage).state, PageState::kDirty);
  EXPECT_FALSE(table.get(kPage).busy);
  EXPECT_GT(table.begin_leave(kPage)->version, leave.version) << "that version may have been sent";
}

TEST_F(PageTableTest, RecoveryFinishesAPunchThatTheTableHadAnnounced) {
  make_dirty();
  const PageTable::Leave leave = make_leaving();
  ASSERT_TRUE(table.commit_remote(kPage, leave.version));
  EXPECT_TRUE(table.recover(kPage, true));
  EXPECT_EQ(table.get(kPage).state, PageState::kRemote);
  EXPECT_TRUE(table.recover(kPage, true)) << "it died again before the punch";
  EXPECT_FALSE(table.recover(kPage, false));
  EXPECT_TRUE(table.begin_fetch(kPage));
}

TEST_F(PageTableTest, RecoveryTakesAResidentPageThatIsAHoleForDiscarded) {
  make_remote();
  come_back();
  EXPECT_FALSE(table.recover(kPage, false));
  EXPECT_EQ(table.get(kPage).state, PageState::kAbsent);
  EXPECT_TRUE(table.get(kPage).held) << "the donor is to be told";
}

TEST_F(PageTableTest, RecoveryTellsTheEvictionPolicyOfResidentPages) {
  make_dirty();
  PageTable next(words);
  next.recover(kPage, true);
  std::vector<ExtentNumber> arrivals;
  next.take_arrivals([&](ExtentNumber extent) { arrivals.push_back(extent); });
  EXPECT_EQ(arrivals, std::vector{extent_of(kPage)});
}

}  // namespace
}  // namespace hecaton
