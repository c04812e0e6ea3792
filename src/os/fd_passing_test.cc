#include "os/fd_passing.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

namespace hecaton {
namespace {

class FdPassing : public testing::Test {
 protected:
  FdPassing() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    here_ = OwnedFd(ends[0]);
    there_ = OwnedFd(ends[1]);
  }
  ReceivedBytes receive() { return receive_with_descriptors(there_.get(), into_, came_); }

  OwnedFd here_, there_;
  const std::array<std::byte, 3> bytes_{std::byte{1}, std::byte{2}, std::byte{3}};
  std::array<std::byte, 64> into_{};
  std::vector<OwnedFd> came_;
};

TEST_F(FdPassing, WhatIsWrittenToTheOneThatCameIsReadFromTheOneThatWasSent) {
  const OwnedFd sent(eventfd(0, EFD_CLOEXEC));
  const std::array<int, 2> descriptors{sent.get(), sent.get()};
  ASSERT_EQ(send_with_descriptors(here_.get(), bytes_, descriptors), 3);
  EXPECT_EQ(receive().count, 3);
  EXPECT_EQ(into_[2], std::byte{3});
  ASSERT_EQ(came_.size(), 2u);
  ASSERT_EQ(eventfd_write(came_[1].get(), 7), 0);
  eventfd_t value = 0;
  ASSERT_EQ(eventfd_read(sent.get(), &value), 0);
  EXPECT_EQ(value, 7u);
}

TEST_F(FdPassing, BytesMayTravelAlone) {
  ASSERT_EQ(send_with_descriptors(here_.get(), bytes_, {}), 3);
  EXPECT_EQ(receive().count, 3);
  EXPECT_TRUE(came_.empty());
}

TEST_F(FdPassing, NothingYetAndTheEndAreToldApart) {
  EXPECT_EQ(receive().count, -1);
  here_.reset();
  EXPECT_EQ(receive().count, 0);
}

}  // namespace
}  // namespace hecaton
