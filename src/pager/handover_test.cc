#include "pager/handover.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/units.h"
#include "os/fd_passing.h"
#include "os/memory.h"
#include "wire/handover.h"

namespace hecaton {
namespace {

using wire::HandoverMessage;

class HandoverSocket : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    pager_.reset(ends[0]);
    qemu_.reset(ends[1]);
  }

  static HandoverMessage good() {
    return {wire::kHandoverMagic, wire::kHandoverVersion, 77, 0x7f0000001000, 64_MiB, 0, 2_MiB, 1, 0, {}};
  }

  void send(const void* bytes, size_t size, std::vector<int> descriptors) {
    const std::span<const std::byte> all(static_cast<const std::byte*>(bytes), size);
    ASSERT_EQ(static_cast<ssize_t>(size), send_with_descriptors(qemu_.get(), all, descriptors));
  }

  Result<Handover> receive(int64_t ms = 5000) { return receive_handover(pager_.get(), Deadline::after_ms(ms)); }

  void expect_protocol_error(const char* words) {
    auto received = receive();
    ASSERT_FALSE(received.ok()) << words;
    EXPECT_EQ(ErrorCode::kProtocol, received.error().code) << received.error().describe();
    EXPECT_NE(std::string::npos, received.error().describe().find(words)) << received.error().describe();
  }

  // How many descriptors this process has open.
  static int open_descriptors() {
    int count = 0;
    for (int fd = 0; fd < 256; ++fd) count += fcntl(fd, F_GETFD) >= 0;
    return count;
  }

  OwnedFd pager_, qemu_;
};

TEST_F(HandoverSocket, DeliversWhatQemuSaidAndTheDescriptor) {
  auto uffd = Userfaultfd::create();
  if (!uffd.ok()) GTEST_SKIP() << "no userfaultfd here";
  HandoverMessage message = good();
  message.file_offset = 8192;
  send(&message, sizeof message, {uffd->fd()});
  Handover handover = receive().value();
  EXPECT_EQ(message.address, handover.address.value);
  EXPECT_EQ(64_MiB, handover.bytes);
  EXPECT_EQ(8192u, handover.offset);
  EXPECT_EQ(77, handover.pid);
  EXPECT_EQ(2_MiB, handover.stripe_bytes);
  ASSERT_EQ(1u, handover.uffds.size());
  EXPECT_NE(0, fcntl(handover.uffds[0].fd(), F_GETFD) & FD_CLOEXEC);
}

TEST_F(HandoverSocket, DeliversADescriptorForEachShardInTheirOrder) {
  std::vector<Userfaultfd> sent;
  std::vector<int> descriptors;
  for (unsigned shard = 0; shard < wire::kHandoverMostShards; ++shard) {
    auto uffd = Userfaultfd::create();
    if (!uffd.ok()) GTEST_SKIP() << "no userfaultfd here";
    sent.push_back(std::move(uffd).value());
    descriptors.push_back(sent.back().fd());
  }
  HandoverMessage message = good();
  message.shards = wire::kHandoverMostShards;
  send(&message, sizeof message, descriptors);
  Handover handover = receive().value();
  ASSERT_EQ(sent.size(), handover.uffds.size());
  // Each is told from the others by what is registered with it: nothing else of a userfaultfd can be seen.
  for (size_t shard = 0; shard < sent.size(); ++shard) {
    Mapping page = Mapping::shared(create_memfd("page", kPageBytes).value().get(), kPageBytes).value();
    const RemoteAddress at{reinterpret_cast<uint64_t>(page.data())};
    ASSERT_TRUE(sent[shard].register_range(at, kPageBytes).ok());
    EXPECT_TRUE(handover.uffds[shard].register_range(at, kPageBytes).ok()) << "another one is at place " << shard;
    EXPECT_FALSE(handover.uffds[(shard + 1) % sent.size()].register_range(at, kPageBytes).ok());
  }
}

TEST_F(HandoverSocket, TakesAMessageThatArrivesInPieces) {
  auto uffd = Userfaultfd::create();
  if (!uffd.ok()) GTEST_SKIP() << "no userfaultfd here";
  HandoverMessage message = good();
  const char* bytes = reinterpret_cast<const char*>(&message);
  send(bytes, 1, {uffd->fd()});
  send(bytes + 1, 20, {});
  send(bytes + 21, sizeof message - 21, {});
  EXPECT_TRUE(receive().ok());
}

TEST_F(HandoverSocket, TellsAnEndBeforeTheHandoverFromABrokenOne) {
  qemu_.reset();
  EXPECT_EQ(ErrorCode::kClosed, receive().error().code);
}

TEST_F(HandoverSocket, RejectsAMessageThatBreaksOff) {
  HandoverMessage message = good();
  send(&message, sizeof message - 1, {});
  qemu_.reset();
  expect_protocol_error("breaks off");
}

TEST_F(HandoverSocket, GivesUpAtTheDeadline) {
  EXPECT_EQ(ErrorCode::kTimeout, receive(0).error().code);
  HandoverMessage message = good();
  send(&message, 12, {});
  EXPECT_EQ(ErrorCode::kTimeout, receive(1).error().code);
}

TEST_F(HandoverSocket, RejectsEveryFieldThatIsWrong) {
  struct Case {
    std::function<void(HandoverMessage&)> spoil;
    const char* words;
  };
  const Case cases[] = {
      {[](auto& m) { m.magic ^= 1; }, "magic"},
      {[](auto& m) { m.version = 1; }, "version"},
      {[](auto& m) { m.pid = 0; }, "process id"},
      {[](auto& m) { m.pid = 0x80000000; }, "process id"},
      {[](auto& m) { m.address = 0; }, "address"},
      {[](auto& m) { m.address += 1; }, "address"},
      {[](auto& m) { m.bytes = 0; }, "size"},
      {[](auto& m) { m.bytes += 512; }, "size"},
      {[](auto& m) { m.bytes = ~uint64_t{0} - 4095; }, "address space"},
      {[](auto& m) { m.address = ~uint64_t{0} - 4095; }, "address space"},
      {[](auto& m) { m.file_offset = 1; }, "offset"},
      {[](auto& m) { m.file_offset = ~uint64_t{0} - 4095; }, "offset"},
      {[](auto& m) { m.stripe = 0; }, "stripes"},
      {[](auto& m) { m.stripe += 1; }, "stripes"},
      {[](auto& m) { m.shards = 0; }, "shards"},
      {[](auto& m) { m.shards = wire::kHandoverMostShards + 1; }, "shards"},
      {[](auto& m) { m.reserved = 1; }, "shards"},
      {[](auto&) {}, "descriptor"},
  };
  for (const Case& wrong : cases) {
    HandoverMessage message = good();
    wrong.spoil(message);
    send(&message, sizeof message, {});
    expect_protocol_error(wrong.words);
  }
}

TEST_F(HandoverSocket, RejectsOtherDescriptorsAndClosesThem) {
  HandoverMessage message = good();
  int before = open_descriptors();
  send(&message, sizeof message, {0});
  expect_protocol_error("not a userfaultfd");
  send(&message, sizeof message, {0, 1, 2});
  expect_protocol_error("exactly one");
  send(&message, sizeof message, std::vector<int>(wire::kHandoverMostShards + 1, 0));
  expect_protocol_error("exactly one");
  message.shards = 3;
  send(&message, sizeof message, {0, 1});
  expect_protocol_error("exactly one");
  send(&message, sizeof message, std::vector<int>(40, 0));
  expect_protocol_error("oversized");
  EXPECT_EQ(before, open_descriptors());
}

TEST_F(HandoverSocket, RejectsNoise) {
  unsigned seed = static_cast<unsigned>(testing::UnitTest::GetInstance()->random_seed());
  SCOPED_TRACE("seed " + std::to_string(seed));
  srand(seed);
  for (int round = 0; round < 200; ++round) {
    unsigned char noise[sizeof(HandoverMessage)];
    for (unsigned char& byte : noise) byte = static_cast<unsigned char>(rand());
    send(noise, sizeof noise, {});
    EXPECT_EQ(ErrorCode::kProtocol, receive().error().code);
  }
}

TEST_F(HandoverSocket, AnswersWithWhatWasDecided) {
  for (bool accepted : {true, false}) {
    ASSERT_TRUE(acknowledge(pager_.get(), accepted).ok());
    wire::HandoverAnswer answer{};
    ASSERT_EQ(ssize_t{sizeof answer}, read(qemu_.get(), &answer, sizeof answer));
    EXPECT_EQ(wire::kAnswerMagic, answer.magic);
    EXPECT_EQ(wire::kHandoverVersion, answer.version);
    EXPECT_EQ(accepted ? wire::kHandoverAccepted : wire::kHandoverRefused, answer.status);
  }
}

TEST_F(HandoverSocket, SaysThatQemuIsGoneWhenItIs) {
  qemu_.reset();
  auto answered = acknowledge(pager_.get(), true);
  ASSERT_FALSE(answered.ok());
  EXPECT_EQ(ErrorCode::kClosed, answered.error().code);
}

}  // namespace
}  // namespace hecaton
