#include "node/peer_link.h"

#include <gtest/gtest.h>

#include <cstring>

namespace hecaton::node {
namespace {

using wire::CoherenceKind;
using wire::CoherenceMessage;

CoherenceMessage message(CoherenceKind kind, uint64_t page, bool carries_page = false) {
  CoherenceMessage made;
  made.kind = kind;
  made.page = PageNumber(page);
  made.carries_page = carries_page;
  return made;
}

// Two links that are each other's peer.
struct Pair {
  Pair() {
    auto urgent = in_process_pair().value();
    auto pages = in_process_pair().value();
    here.emplace(NodeId(1), std::move(urgent.first), std::move(pages.first));
    there.emplace(NodeId(0), std::move(urgent.second), std::move(pages.second));
    page.fill(std::byte{7});
  }
  std::optional<PeerLink::Arrival> next(Lane lane) { return there->next(lane).value(); }

  std::optional<PeerLink> here, there;
  std::array<std::byte, kPageBytes> page{};
};

TEST(PeerLink, PagesComeOnTheirOwnLaneWithTheirBytes) {
  Pair pair;
  pair.here->send(message(CoherenceKind::kShared, 3, true), pair.page.data());
  ASSERT_TRUE(pair.there->receive(Lane::kPages));
  const auto arrival = pair.next(Lane::kPages);
  ASSERT_TRUE(arrival);
  EXPECT_EQ(arrival->message, message(CoherenceKind::kShared, 3, true));
  EXPECT_EQ(std::memcmp(arrival->page.data(), pair.page.data(), kPageBytes), 0);
}

TEST(PeerLink, AMessageWaitsForThePageThatWasSentBeforeIt) {
  Pair pair;
  pair.here->send(message(CoherenceKind::kShared, 3, true), pair.page.data());
  pair.here->send(message(CoherenceKind::kInvalidate, 3), nullptr);
  ASSERT_TRUE(pair.there->receive(Lane::kUrgent));
  EXPECT_FALSE(pair.next(Lane::kUrgent));
  ASSERT_TRUE(pair.there->receive(Lane::kPages));
  EXPECT_FALSE(pair.next(Lane::kUrgent)) << "the page has come, but it was not taken";
  EXPECT_TRUE(pair.next(Lane::kPages));
  EXPECT_TRUE(pair.next(Lane::kUrgent));
}

TEST(PeerLink, APageWaitsForTheMessageThatWasSentBeforeIt) {
  Pair pair;
  pair.here->send(message(CoherenceKind::kInvalidate, 3), nullptr);
  pair.here->send(message(CoherenceKind::kShared, 3, true), pair.page.data());
  ASSERT_TRUE(pair.there->receive(Lane::kPages));
  EXPECT_FALSE(pair.next(Lane::kPages));
  ASSERT_TRUE(pair.there->receive(Lane::kUrgent));
  EXPECT_TRUE(pair.next(Lane::kUrgent));
  EXPECT_TRUE(pair.next(Lane::kPages));
}

TEST(PeerLink, AMessageDoesNotWaitForAnotherPage) {
  Pair pair;
  pair.here->send(message(CoherenceKind::kShared, 3, true), pair.page.data());
  pair.here->send(message(CoherenceKind::kInvalidate, 4), nullptr);
  ASSERT_TRUE(pair.there->receive(Lane::kUrgent));
  EXPECT_TRUE(pair.next(Lane::kUrgent));
}

TEST(PeerLink, WhatThePeerDoesNotTakeAtOnceIsKept) {
  Pair pair;
  constexpr size_t kPages = 500;
  for (size_t i = 0; i < kPages; ++i) {
    std::memcpy(pair.page.data(), &i, sizeof i);
    pair.here->send(message(CoherenceKind::kShared, i, true), pair.page.data());
  }
  EXPECT_TRUE(pair.here->has_unsent(Lane::kPages));
  for (size_t i = 0; i < kPages;) {
    pair.here->flush(Lane::kPages);
    (void)pair.there->receive(Lane::kPages);
    while (const auto arrival = pair.next(Lane::kPages)) {
      EXPECT_EQ(arrival->message.page.value, i);
      EXPECT_EQ(std::memcmp(arrival->page.data(), &i, sizeof i), 0);
      ++i;
    }
  }
  EXPECT_FALSE(pair.here->has_unsent(Lane::kPages));
}

TEST(PeerLink, ALaneThatWasFullIsReadOnOnceTheOtherLaneLetIt) {
  Pair pair;
  constexpr size_t kPages = 40;  // more than a lane has room for
  pair.here->send(message(CoherenceKind::kInvalidate, 3), nullptr);
  for (size_t i = 0; i < kPages; ++i) pair.here->send(message(CoherenceKind::kShared, 3, true), pair.page.data());
  while (pair.there->receive(Lane::kPages)) EXPECT_FALSE(pair.next(Lane::kPages));
  EXPECT_FALSE(pair.there->may_have_more(Lane::kPages)) << "there is no room";
  ASSERT_TRUE(pair.there->receive(Lane::kUrgent));
  EXPECT_TRUE(pair.next(Lane::kUrgent));
  EXPECT_TRUE(pair.next(Lane::kPages));
  EXPECT_TRUE(pair.there->may_have_more(Lane::kPages)) << "nothing else tells that there is";
}

TEST(PeerLink, APageOnTheUrgentLaneIsAnError) {
  Pair pair;
  std::array<std::byte, wire::kLaneFrameBytes + wire::kCoherenceHeaderBytes> bytes{};
  encode(wire::LaneFrame{wire::FrameKind::kMessage, NodeId(), 0}, std::span(bytes).first<wire::kLaneFrameBytes>());
  encode(message(CoherenceKind::kShared, 3, true), 1, std::span(bytes).last<wire::kCoherenceHeaderBytes>());
  ASSERT_TRUE(send_all(pair.here->stream(Lane::kUrgent), bytes, Deadline::after_ms(1000)).ok());
  ASSERT_TRUE(pair.there->receive(Lane::kUrgent));
  EXPECT_EQ(pair.there->next(Lane::kUrgent).error().code, ErrorCode::kProtocol);
}

TEST(PeerLink, APageWithOtherBytesThanItsChecksumIsCorrupt) {
  Pair pair;
  std::array<std::byte, wire::kMostFrameBytes> bytes{};
  const std::span all(bytes);
  encode(wire::LaneFrame{wire::FrameKind::kMessage, NodeId(), 0}, all.first<wire::kLaneFrameBytes>());
  encode(message(CoherenceKind::kShared, 3, true), 1,
         all.subspan(wire::kLaneFrameBytes).first<wire::kCoherenceHeaderBytes>());
  ASSERT_TRUE(send_all(pair.here->stream(Lane::kPages), bytes, Deadline::after_ms(1000)).ok());
  ASSERT_TRUE(pair.there->receive(Lane::kPages));
  EXPECT_EQ(pair.there->next(Lane::kPages).error().code, ErrorCode::kCorrupt);
}

TEST(PeerLink, AnEndIsSeenAfterWhatWasSentBefore) {
  Pair pair;
  pair.here->send_farewell(NodeId(1));
  pair.here.reset();
  ASSERT_TRUE(pair.there->receive(Lane::kUrgent));
  const auto arrival = pair.next(Lane::kUrgent);
  ASSERT_TRUE(arrival);
  EXPECT_EQ(arrival->frame.kind, wire::FrameKind::kFarewell);
  EXPECT_FALSE(pair.there->receive(Lane::kUrgent));
  EXPECT_TRUE(pair.there->ended());
}

}  // namespace
}  // namespace hecaton::node
