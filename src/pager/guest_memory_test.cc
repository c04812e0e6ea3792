// Real userfaultfds over stripes of this process's own memory, and threads that fault on them.
#include "pager/guest_memory.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "os/memory.h"

namespace hecaton {
namespace {

constexpr uint64_t kStripePages = 4;
constexpr uint64_t kPages = 6 * kStripePages;

// What the kernel says of the faults that wait at a userfaultfd.
int waiting_at(const Userfaultfd& uffd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(uffd.fd()));
  std::string word;
  for (int total; info >> word;) {
    if (word == "total:" && info >> total) return total;
  }
  return -1;
}

class StripedMemory : public testing::Test {
 protected:
  void SetUp() override {
    auto features = Userfaultfd::probe();
    if (!features.ok() || !features->enough_for_memory_mode()) GTEST_SKIP() << "no userfaultfd for shared memory here";
    memfd_ = create_memfd("striped", kPages * kPageBytes).value();
    guest_ = Mapping::shared(memfd_.get(), kPages * kPageBytes).value();
    own_ = Mapping::shared(memfd_.get(), kPages * kPageBytes).value();
    for (int shard = 0; shard < 2; ++shard) uffds_.push_back(Userfaultfd::create().value());
    base_ = RemoteAddress{reinterpret_cast<uint64_t>(guest_.data())};
    for (uint64_t stripe = 0; stripe < kPages / kStripePages; ++stripe) {
      const uint64_t bytes = kStripePages * kPageBytes;
      ASSERT_TRUE(uffds_[stripe % 2].register_range(base_ + stripe * bytes, bytes).ok());
    }
    memory_ =
        std::make_unique<UffdGuestMemory>(uffds_, kStripes, base_, memfd_.get(), own_.data(), features->continue_wp());
  }

  // The next event of the shard; waits for it.
  FaultEvent event_of(unsigned shard) {
    pollfd waiting{uffds_[shard].fd(), POLLIN, 0};
    EXPECT_EQ(1, poll(&waiting, 1, 20'000)) << "no fault comes to shard " << shard;
    std::array<FaultEvent, 1> event{};
    EXPECT_EQ(1u, uffds_[shard].read_events(event).value());
    return event[0];
  }
  uint64_t page_of(const FaultEvent& event) const { return (event.address - base_.value) / kPageBytes; }
  std::thread reader_of(uint64_t page, char* seen) {
    return std::thread([this, page, seen] {
      *seen = static_cast<char>(*reinterpret_cast<volatile std::byte*>(guest_.data() + page * kPageBytes));
    });
  }

  static constexpr Stripes kStripes{2, kStripePages};
  OwnedFd memfd_;
  Mapping guest_, own_;
  std::vector<Userfaultfd> uffds_;
  RemoteAddress base_;
  std::unique_ptr<UffdGuestMemory> memory_;
};

TEST_F(StripedMemory, TellsEachFaultToTheShardOfItsPageAndWakesItThere) {
  for (uint64_t page : {uint64_t{1}, kStripePages, 2 * kStripePages + 3, kPages - 1}) {
    char seen = 0;
    std::thread reader = reader_of(page, &seen);
    EXPECT_EQ(page, page_of(event_of(kStripes.shard_of(PageNumber(page)))));
    const std::vector<std::byte> bytes(kPageBytes, std::byte{'x'});
    uint64_t done = 0;
    EXPECT_EQ(InstallOutcome::kInstalled, memory_->copy({PageNumber(page), 1}, bytes.data(), false, true, &done));
    reader.join();
    EXPECT_EQ('x', seen);
  }
}

TEST_F(StripedMemory, InstallsARunOverSeveralStripes) {
  const PageRun run{PageNumber(2), 3 * kStripePages};
  std::vector<std::byte> bytes(run.count * kPageBytes);
  for (uint64_t i = 0; i < run.count; ++i) bytes[i * kPageBytes] = static_cast<std::byte>(i + 1);
  uint64_t done = 0;
  EXPECT_EQ(InstallOutcome::kInstalled, memory_->copy(run, bytes.data(), true, false, &done));
  EXPECT_EQ(run.count, done);
  for (uint64_t i = 0; i < run.count; ++i) {
    EXPECT_EQ(static_cast<std::byte>(i + 1), guest_.data()[(2 + i) * kPageBytes]);
  }
  EXPECT_EQ(0, waiting_at(uffds_[0]) + waiting_at(uffds_[1])) << "a page of the run was not in place";
}

TEST_F(StripedMemory, SaysHowFarARunCameThatMeetsAPageInAnotherStripe) {
  const std::vector<std::byte> bytes(2 * kStripePages * kPageBytes, std::byte{'y'});
  uint64_t done = 0;
  const PageNumber in_the_way(kStripePages + 1);
  EXPECT_EQ(InstallOutcome::kInstalled, memory_->copy({in_the_way, 1}, bytes.data(), false, true, &done));
  EXPECT_NE(InstallOutcome::kInstalled,
            memory_->copy({PageNumber(0), 2 * kStripePages}, bytes.data(), false, true, &done));
  EXPECT_EQ(kStripePages + 1, done);
}

TEST_F(StripedMemory, ProtectsARunOverSeveralStripes) {
  const std::vector<std::byte> bytes(kPages * kPageBytes, std::byte{'z'});
  uint64_t done = 0;
  ASSERT_EQ(InstallOutcome::kInstalled, memory_->copy({PageNumber(0), kPages}, bytes.data(), false, true, &done));
  ASSERT_EQ(InstallOutcome::kInstalled, memory_->protect({PageNumber(1), kPages - 1}));
  for (uint64_t page : {kStripePages, 2 * kStripePages}) {
    std::thread writer([&] { *reinterpret_cast<volatile char*>(guest_.data() + page * kPageBytes) = 'w'; });
    const FaultEvent event = event_of(kStripes.shard_of(PageNumber(page)));
    EXPECT_EQ(FaultEvent::Kind::kWriteProtected, event.kind);
    EXPECT_EQ(InstallOutcome::kInstalled, memory_->unprotect(PageNumber(page)));
    writer.join();
  }
}

// The kernel wakes only who waits at the userfaultfd that it is told of.
TEST_F(StripedMemory, WakesTheWaitersOfEveryShardOfARange) {
  char seen[2] = {};
  std::thread readers[] = {reader_of(0, &seen[0]), reader_of(kStripePages, &seen[1])};
  for (unsigned shard : {0u, 1u}) event_of(shard);
  const std::vector<std::byte> bytes(kPageBytes, std::byte{'v'});
  uint64_t done = 0;
  for (uint64_t page : {uint64_t{0}, kStripePages}) {
    ASSERT_EQ(InstallOutcome::kInstalled, memory_->copy({PageNumber(page), 1}, bytes.data(), false, false, &done));
  }
  EXPECT_EQ(1, waiting_at(uffds_[0]));
  EXPECT_EQ(1, waiting_at(uffds_[1]));
  uffds_[0].wake(base_ + kStripePages * kPageBytes, kPageBytes);  // the wrong one
  EXPECT_EQ(1, waiting_at(uffds_[1])) << "the kernel looks further than this design believes";
  EXPECT_EQ(InstallOutcome::kInstalled, memory_->wake({PageNumber(0), kPages}));
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ('v', seen[0]);
  EXPECT_EQ('v', seen[1]);
}

}  // namespace
}  // namespace hecaton
