#include "transport/ring_window.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>

namespace hecaton {
namespace {

constexpr uint32_t kRing = 1000, kMessages = 8;

TEST(SendWindow, NoMessagePassesTheEndOfTheRing) {
  SendWindow window(kRing, kMessages);
  EXPECT_EQ(window.next(700).bytes, 700u);
  window.posted(700);
  RingPlace rest = window.next(700);
  EXPECT_EQ(rest.offset, 700u);
  EXPECT_EQ(rest.bytes, 300u);
  window.posted(300);
  EXPECT_EQ(window.next(1).bytes, 0u);
}

TEST(SendWindow, SpaceIsFreeOnceItIsReadThereAndDoneHere) {
  SendWindow window(kRing, kMessages);
  window.posted(kRing);
  EXPECT_TRUE(window.read_by_peer(1));
  EXPECT_EQ(window.next(1).bytes, 0u);  // it may have to be sent again
  window.completed();
  EXPECT_EQ(window.next(5).bytes, 5u);
  window.posted(kRing);
  window.completed();
  EXPECT_EQ(window.next(1).bytes, 0u);  // unread
  EXPECT_TRUE(window.read_by_peer(1));
  EXPECT_EQ(window.next(1).bytes, 1u);
}

TEST(SendWindow, TheNumberOfMessagesIsALimitToo) {
  SendWindow window(kRing, kMessages);
  for (uint32_t i = 0; i < kMessages; ++i) window.posted(1);
  EXPECT_EQ(window.next(1).bytes, 0u);
  window.completed();
  EXPECT_TRUE(window.read_by_peer(1));
  EXPECT_EQ(window.next(1).bytes, 1u);
}

TEST(SendWindow, APeerCannotHaveReadMoreThanWasSent) {
  SendWindow window(kRing, kMessages);
  EXPECT_FALSE(window.read_by_peer(1));
  window.posted(10);
  window.posted(10);
  EXPECT_TRUE(window.read_by_peer(2));
  EXPECT_FALSE(window.read_by_peer(1));  // though both posts are not done yet
  EXPECT_FALSE(window.read_by_peer(UINT32_MAX));
}

TEST(ReceiveWindow, RefusesWhatCannotHaveArrived) {
  ReceiveWindow window(kRing, kMessages);
  EXPECT_FALSE(window.arrived(0));
  EXPECT_FALSE(window.arrived(kRing + 1));
  EXPECT_TRUE(window.arrived(600));
  EXPECT_FALSE(window.arrived(401));  // past the end of the ring
  EXPECT_TRUE(window.arrived(400));
  EXPECT_FALSE(window.arrived(1));  // over what nobody has read
  window.took(600);
  EXPECT_FALSE(window.arrived(1));  // the writer was not told
  EXPECT_EQ(window.to_tell(), 1u);
  window.told();
  EXPECT_TRUE(window.arrived(600));
}

TEST(ReceiveWindow, RefusesMoreMessagesThanWereAgreed) {
  ReceiveWindow window(kRing, kMessages);
  for (uint32_t i = 0; i < kMessages; ++i) EXPECT_TRUE(window.arrived(1));
  EXPECT_FALSE(window.arrived(1));
}

TEST(ReceiveWindow, ReadsAMessageInParts) {
  ReceiveWindow window(kRing, kMessages);
  ASSERT_TRUE(window.arrived(100));
  ASSERT_TRUE(window.arrived(50));
  window.took(30);
  EXPECT_EQ(window.readable().offset, 30u);
  EXPECT_EQ(window.readable().bytes, 70u);
  window.took(70);
  EXPECT_EQ(window.readable().offset, 100u);
  EXPECT_EQ(window.readable().bytes, 50u);
}

// Both ends of a ring with a wire between them that is as slow as it likes: whatever order things happen in, all bytes
// come through and neither end takes the other for a liar.
TEST(RingWindows, NeverStallAndNeverOverrun) {
  std::mt19937 random(testing::UnitTest::GetInstance()->random_seed());
  SendWindow sender(kRing, kMessages);
  ReceiveWindow receiver(kRing, kMessages);
  std::deque<uint32_t> wire, undone, notes;
  uint64_t sent = 0, got = 0;
  constexpr uint64_t kTotal = 200'000;
  while (got < kTotal) {
    bool moved = false;
    for (int i = 0; i < 8; ++i) {
      switch (random() % 5) {
        case 0:
          if (RingPlace place = sender.next(std::min<uint64_t>(kTotal - sent, 1 + random() % 400)); place.bytes > 0) {
            sender.posted(place.bytes);
            wire.push_back(place.bytes);
            undone.push_back(1);
            sent += place.bytes;
            moved = true;
          }
          break;
        case 1:
          if (!wire.empty()) {
            ASSERT_TRUE(receiver.arrived(wire.front()));
            wire.pop_front();
            moved = true;
          }
          break;
        case 2:
          if (RingPlace place = receiver.readable(); place.bytes > 0) {
            uint32_t part = 1 + static_cast<uint32_t>(random() % place.bytes);
            receiver.took(part);
            got += part;
            moved = true;
          }
          if (uint32_t messages = receiver.to_tell()) {
            notes.push_back(messages);
            receiver.told();
          }
          break;
        case 3:
          if (!notes.empty()) {
            ASSERT_TRUE(sender.read_by_peer(notes.front()));
            notes.pop_front();
            moved = true;
          }
          break;
        case 4:
          if (!undone.empty()) {
            sender.completed();
            undone.pop_front();
            moved = true;
          }
          break;
      }
    }
    const bool idle = wire.empty() && undone.empty() && notes.empty() && receiver.readable().bytes == 0;
    ASSERT_TRUE(moved || !idle || sent == kTotal || sender.next(1).bytes > 0) << "stalled at " << got;
  }
  EXPECT_EQ(sent, kTotal);
}

}  // namespace
}  // namespace hecaton
