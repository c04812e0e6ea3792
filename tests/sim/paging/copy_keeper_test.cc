// The evict thread's side of donors, without the rest of a VM: on the simulated network, one thing after the other.
#include "pager/copy_keeper.h"

#include <gtest/gtest.h>

#include "pager/no_memory_for_tests.h"
#include "paging/network.h"

namespace hecaton::sim {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr uint64_t kPages = kPagesPerExtent;
constexpr ExtentNumber kExtent(0);
constexpr PageNumber kPage(3);

// One donor, which keeps what it has while it is cut off.
class CopyKeeperTest : public testing::Test {
 protected:
  CopyKeeperTest() {
    network_.grace_ns = 60 * kSecond;
    PoolConfig config;
    config.nodes = {machine_.url()};
    config.vm_name = "vm";
    config.region_bytes = kPages * kPageBytes;
    config.connect = [this](const NodeUrl& url, const Credentials&, Deadline by) { return network_.connect(url, by); };
    std::string problem;
    pool_ = DonorPool::open(config, &problem).value();
    state_.emplace(words_, Budget::kMinimumPages, memory_, pool_->placement());
    keeper_.emplace(LoopContext{*state_, *pool_, loss_, stop_, Compression::kOff, 256_MiB, now_ns},
                    CopyKeeper::Hooks{[] {}, [] {}});
    keeper_->see_changes();
  }
  // The pool would wait for answers that cannot come.
  ~CopyKeeperTest() override {
    network_.kill(machine_);
    network_.advance(100 * kSecond);
  }

  // The donor has a page of which the table no longer knows: it was discarded since.
  void leave_discarded_page_at_donor() {
    keeper_->place(kExtent);
    std::vector<std::byte> bytes(kPageBytes, std::byte{7});
    const wire::PageEntry entry{kPage, wire::page_checksum(bytes, kPage, 1), 1, wire::PageState::kPresent};
    const iovec piece{bytes.data(), bytes.size()};
    Link& link = pool_->write_back(0);
    ASSERT_TRUE(link.send_write(1, std::span(&entry, 1), std::span(&piece, 1)).ok());
    network_.advance(kSecond);
    auto take = [](const wire::FrameHeader&, std::span<const std::byte>) { return Result<void>(); };
    ASSERT_EQ(link.receive(take).value(), 1u);
    ASSERT_TRUE(machine_.peek(kPage));
  }
  // The number under which the donor is reached again.
  size_t cut_and_reach_again() {
    network_.cut_all(machine_);
    keeper_->receive(0);
    keeper_->see_changes();
    network_.advance(kSecond);
    pool_->tend(now_ns());
    EXPECT_EQ(pool_->donors(), 2u);
    EXPECT_EQ(pool_->inherits_from(1), 0u);
    return 1;
  }
  void turn() {
    if (keeper_->changes_due()) keeper_->see_changes();
    keeper_->step_repair();
    network_.advance(kSecond);
    for (size_t donor = 0; donor < pool_->write_back_links().size(); ++donor) keeper_->receive(donor);
  }

  std::mt19937_64 random_{1};
  Network network_{random_, kSecond};
  Machine& machine_ = network_.add(4 * kExtentBytes);
  std::unique_ptr<DonorPool> pool_;
  NoMemory memory_;
  std::vector<PageTable::Word> words_ = std::vector<PageTable::Word>(kPages);
  std::optional<PagerState> state_;
  LossLatch loss_{OnLoss::kStop, [](const LossReport&) {}};
  std::atomic<bool> stop_{false};
  std::optional<CopyKeeper> keeper_;
};

TEST_F(CopyKeeperTest, RepeatsDiscardsAtADonorThatIsReachedAgain) {
  leave_discarded_page_at_donor();
  cut_and_reach_again();
  turn();
  EXPECT_FALSE(machine_.peek(kPage));
}

TEST_F(CopyKeeperTest, RepeatsDiscardsAtADonorThatIsReachedAgainAndSilentJustThen) {
  leave_discarded_page_at_donor();
  const size_t donor = cut_and_reach_again();
  machine_.hangs = true;
  pool_->silent(donor);  // as another thread has found
  turn();
  EXPECT_TRUE(machine_.peek(kPage));
  machine_.hangs = false;
  turn();
  EXPECT_FALSE(machine_.peek(kPage));
  EXPECT_TRUE(pool_->states().live(donor)) << "it has answered";
}

}  // namespace
}  // namespace hecaton::sim
