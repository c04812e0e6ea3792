// What threads do between two steps of a FaultServer, each at the one moment where it matters. The paging model has one
// thread, and preempts in kernel calls only; here others also run right after a look at the page table.
#include "pager/fault_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <utility>
#include <vector>

namespace hecaton {
namespace {

// Runs once, after the next look at the page table.
std::function<void()>& after_next_look() {
  static std::function<void()> then;
  return then;
}

}  // namespace

// The linker sends FaultServer's calls of PageTable::get here (--wrap): a member function takes its object as the first
// argument of a free one.
PageStatus really_get(const PageTable* table,
                      PageNumber page) asm("__real__ZNK7hecaton9PageTable3getENS_6NumberINS_7PageTagEEE");
PageStatus get_and_interrupt(const PageTable* table,
                             PageNumber page) asm("__wrap__ZNK7hecaton9PageTable3getENS_6NumberINS_7PageTagEEE");
PageStatus get_and_interrupt(const PageTable* table, PageNumber page) {
  const PageStatus seen = really_get(table, page);
  if (auto then = std::exchange(after_next_look(), nullptr)) then();
  return seen;
}

namespace {

constexpr uint64_t kStripePages = 32;
constexpr uint64_t kPages = 4 * kStripePages;  // shards 0, 1, 0, 1
constexpr uint64_t kBudget = Budget::kMinimumPages;
constexpr PageNumber kOfShard0(0), kOfShard1(kStripePages);

class FaultServerTest : public testing::Test, public GuestMemory, public FaultBackend {
 protected:
  // GuestMemory: every call does what it is asked to.
  InstallOutcome zero_page(PageNumber) override { return InstallOutcome::kInstalled; }
  InstallOutcome copy(PageRun run, const std::byte*, bool, bool, uint64_t* done) override {
    *done = run.count;
    return InstallOutcome::kInstalled;
  }
  InstallOutcome map(PageNumber, bool) override { return InstallOutcome::kInstalled; }
  InstallOutcome protect(PageRun) override { return InstallOutcome::kInstalled; }
  InstallOutcome unprotect(PageNumber) override { return InstallOutcome::kInstalled; }
  InstallOutcome poison(PageNumber) override { return InstallOutcome::kFailed; }
  InstallOutcome wake(PageRun run) override {
    woken_.push_back(run.first);
    return InstallOutcome::kInstalled;
  }
  Result<void> punch(PageRun) override {
    if (auto then = std::exchange(within_next_punch_, nullptr)) then();
    return {};
  }
  bool is_hole(PageNumber) override { return false; }
  PageRun next_present(PageNumber from) override { return {from, 0}; }
  std::byte* bytes(PageNumber) override { return page_; }
  bool can_map_protected() const override { return true; }

  // FaultBackend
  bool start_read(PageNumber, uint32_t slot, bool) override {
    ++reads_;
    slot_ = slot;
    return true;
  }
  bool wait_for_copy(PageNumber, uint32_t) override { return false; }
  void prefetch(const PrefetchWindow&) override {}
  void hand_stream(unsigned, const Prefetcher::Stream&) override {}
  void wake_evictor() override {}
  void wake_fault_threads() override { ++fault_wakes_; }
  void report_loss(LossReport report) override { ADD_FAILURE() << report.reason; }

  static Fault missing(PageNumber page) { return {page, Fault::Kind::kMissing, true, 0}; }
  void make_remote(PageNumber page) {
    ASSERT_TRUE(state_.budget.try_take(1));
    ASSERT_TRUE(state_.table.begin_fill(page));
    state_.table.finish_fetch(page, PageTable::Arrival::kDirty);
    const auto leave = state_.table.begin_leave(page);
    ASSERT_TRUE(leave);
    state_.table.release(page);
    ASSERT_TRUE(state_.table.commit_remote(page, leave->version));
    state_.table.release(page);
  }
  void make_fetching(PageNumber page) {
    make_remote(page);
    ASSERT_TRUE(state_.table.begin_fetch(page));
  }

  alignas(64) std::byte page_[kPageBytes] = {};
  std::vector<PageTable::Word> words_ = std::vector<PageTable::Word>(kPages);
  std::vector<PlacementTable::Word> copies_ = std::vector<PlacementTable::Word>(1);
  PlacementTable placement_{copies_, Protection::kNone, 1};
  PagerState state_{words_, kBudget, *this, placement_, Stripes(2, kStripePages)};
  FaultServer shard0_{state_, Prefetcher({.region_pages = kPages}), *this, 0};
  FaultServer shard1_{state_, Prefetcher({.region_pages = kPages}), *this, 1};
  std::vector<PageNumber> woken_;
  int fault_wakes_ = 0, reads_ = 0;
  uint32_t slot_ = 0;  // of the latest read
  std::function<void()> within_next_punch_;
};

// See PagerState::fetch_waits: the fetcher read the count before the page became Fetching, and reads it again when the
// page is settled. Unchanged, it wakes nobody.
TEST_F(FaultServerTest, WakesAThreadWhosePageWasSettledWhileItWasLeftToTheFetcher) {
  const uint64_t waits = state_.fetch_waits.load();
  make_fetching(kOfShard0);
  bool fetcher_woke = false;
  after_next_look() = [&] {
    state_.table.finish_fetch(kOfShard0, PageTable::Arrival::kPrefetched);
    fetcher_woke = state_.fetch_waits.load() != waits;
  };
  shard0_.handle(missing(kOfShard0));
  shard0_.retry_deferred();
  ASSERT_FALSE(fetcher_woke) << "the fetcher came too late for this test to be worth anything";
  EXPECT_THAT(woken_, testing::Contains(kOfShard0)) << "nobody wakes the thread";
}

TEST_F(FaultServerTest, LeavesAThreadWhosePageIsStillFetchingToTheFetcher) {
  const uint64_t waits = state_.fetch_waits.load();
  make_fetching(kOfShard0);
  shard0_.handle(missing(kOfShard0));
  EXPECT_FALSE(shard0_.retry_deferred());
  EXPECT_THAT(woken_, testing::IsEmpty());
  EXPECT_NE(waits, state_.fetch_waits.load()) << "the fetcher does not know that somebody waits";
}

TEST_F(FaultServerTest, AsksACopyThatIsCompletedWhileTheLastAnswerOfTheOtherComesBad) {
  const CopySet copies = CopySet().with(0, true).with(1, false);
  copies_[0].store(copies.word());
  make_remote(kOfShard0);
  shard0_.handle(missing(kOfShard0));
  auto answer_badly = [this] { EXPECT_TRUE(shard0_.on_read_reply(slot_, wire::Status::kRefused, {}).ok()); };
  const int reads = FaultServer::kMaxAttempts * static_cast<int>(copies.size());
  while (reads_ < reads) answer_badly();
  copies_[0].store(copies.completed(1).word());
  answer_badly();
  EXPECT_EQ(reads_, reads + 1);
}

TEST_F(FaultServerTest, AsksForBudgetAtWhicheverShardAFaultWaitsForIt) {
  ASSERT_TRUE(state_.budget.try_take(kBudget));
  for (auto [server, page] : {std::pair(&shard0_, kOfShard0), std::pair(&shard1_, kOfShard1)}) {
    server->handle(missing(page));
    server->retry_deferred();
    EXPECT_TRUE(state_.fault_stalled.exchange(false)) << "whoever frees budget will not wake this shard";
  }
  state_.budget.give(1);
  shard1_.retry_deferred();
  EXPECT_EQ(PageState::kDirty, state_.table.get(kOfShard1).state);
}

// The evictor wakes nobody for it: while there is budget nothing has to leave.
TEST_F(FaultServerTest, WakesTheFaultsOfOtherShardsForTheBudgetThatADiscardFrees) {
  shard0_.handle(missing(kOfShard0));
  ASSERT_TRUE(state_.budget.try_take(kBudget - 1));
  shard1_.handle(missing(kOfShard1));
  ASSERT_FALSE(shard1_.retry_deferred()) << "it sleeps until it is woken";
  shard0_.discard({kOfShard0, 1});
  EXPECT_EQ(1, fault_wakes_);
  shard1_.retry_deferred();
  EXPECT_EQ(PageState::kDirty, state_.table.get(kOfShard1).state);
}

TEST_F(FaultServerTest, WakesNobodyForBudgetThatNobodyWaitsFor) {
  shard0_.handle(missing(kOfShard0));
  shard0_.discard({kOfShard0, 1});
  EXPECT_EQ(0, fault_wakes_);
}

// Invariant 5: what is counted is never less than what is there.
TEST_F(FaultServerTest, GivesBudgetBackOnlyForTheHolesThatItsOwnShardHasPunched) {
  constexpr uint64_t kAtShard0 = 4;
  for (uint64_t i = 0; i < kAtShard0; ++i) shard0_.handle(missing(kOfShard0 + i));
  shard1_.handle(missing(kOfShard1));
  ASSERT_EQ(kAtShard0 + 1, state_.budget.resident());
  uint64_t counted = 0;
  within_next_punch_ = [&] {
    shard1_.discard({kOfShard1, 1});
    counted = state_.budget.resident();
  };
  shard0_.discard({kOfShard0, kAtShard0});
  EXPECT_EQ(kAtShard0, counted) << "within the punch of shard 0 its pages are still there";
  EXPECT_EQ(0u, state_.budget.resident());
}

}  // namespace
}  // namespace hecaton
