#include "donor/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/log.h"
#include "donor/fake_peer_for_tests.h"

namespace hecaton::donor {
namespace {

using testing::HasSubstr;
using wire::Operation;
using wire::Status;

constexpr uint64_t kLends = 8_MiB;

class SessionTest : public testing::Test {
 protected:
  // A connection with region "vm" open, as handle 1.
  std::unique_ptr<FakePeer> opened_peer(uint64_t bytes = 64_MiB, uint64_t reserve = 4_MiB) {
    auto peer = std::make_unique<FakePeer>(donor);
    EXPECT_EQ(peer->ask(hello_frame()).status(), Status::kOk);
    Reply reply = peer->ask(open_frame(region_named("vm", bytes, reserve)));
    EXPECT_EQ(reply.status(), Status::kOk) << reply.text();
    EXPECT_EQ(reply.header.region, 1u);
    return peer;
  }
  DonorState donor{kLends, 100};
};

TEST_F(SessionTest, HelloTellsWhatIsLentAndFree) {
  auto first = opened_peer();
  FakePeer peer(donor);
  Reply reply = peer.ask(hello_frame());
  wire::HelloReply hello = wire::decode_hello_reply(reply.body).value();
  EXPECT_EQ(hello.lends_bytes, kLends);
  EXPECT_EQ(hello.free_bytes, kLends - 4_MiB);
  EXPECT_EQ(hello.donor_instance, donor.instance);
  EXPECT_EQ(peer.session.role(), wire::Role::kDemand);
}

// Else bytes that a connection sent before it was cut, and that arrive late, would overwrite newer ones.
TEST_F(SessionTest, WritesOfAWriteBackConnectionAreRefusedOnceThereIsALaterOne) {
  auto write_back = [&] {
    auto peer = std::make_unique<FakePeer>(donor);
    EXPECT_EQ(peer->ask(hello_frame(7, wire::Role::kWriteBack)).status(), Status::kOk);
    EXPECT_EQ(peer->ask(open_frame(region_named("vm", 64_MiB, 4_MiB))).status(), Status::kOk);
    return peer;
  };
  auto first = write_back();
  const Bytes early = write_frame(1, {PageNumber(3)}, 1);
  EXPECT_EQ(first->ask(early).status(), Status::kOk);
  auto second = write_back();
  EXPECT_EQ(second->ask(write_frame(1, {PageNumber(3)}, 2)).status(), Status::kOk);
  EXPECT_EQ(first->ask(early).status(), Status::kRefused);
  EXPECT_EQ(first->ask(discard_frame(1, {{PageNumber(3), 1}})).status(), Status::kRefused);
  EXPECT_EQ(wire::PageSetView::decode(second->ask(read_frame(1, {PageNumber(3)})).body).value().entry(0).version, 2u);
}

TEST_F(SessionTest, AnythingBeforeHelloIsRefusedAndEndsTheConnection) {
  for (const Bytes& early : {open_frame(region_named("vm", 1_MiB, 1_MiB)), read_frame(1, {}), discard_frame(1, {}),
                             frame(Operation::kStat, {})}) {
    FakePeer peer(donor);
    Reply reply = peer.ask(early);
    EXPECT_EQ(reply.status(), Status::kRefused);
    EXPECT_THAT(reply.text(), HasSubstr("hello"));
    EXPECT_TRUE(peer.session.over());
  }
}

TEST_F(SessionTest, AHostOfAnotherProtocolVersionIsToldBothVersions) {
  FakePeer peer(donor);
  constexpr uint16_t kOurs = wire::kProtocolVersion, kOldest = kOurs + 1, kNewest = kOurs + 2;
  Reply reply =
      peer.ask(frame(Operation::kHello, encode(wire::Hello{kOldest, kNewest, wire::Role::kDemand, 1, "9.9"})));
  EXPECT_EQ(reply.status(), Status::kVersion);
  EXPECT_THAT(reply.text(), HasSubstr("version " + std::to_string(kOurs)));
  EXPECT_THAT(reply.text(), HasSubstr(std::to_string(kOldest) + " to " + std::to_string(kNewest)));
  EXPECT_TRUE(peer.session.over());
}

TEST_F(SessionTest, ASecondHelloIsMalformed) {
  auto peer = opened_peer();
  EXPECT_EQ(peer->ask(hello_frame()).status(), Status::kMalformed);
  EXPECT_TRUE(peer->session.over());
}

TEST_F(SessionTest, OtherProtocolsGetAnAnswerAndAreOver) {
  std::string http = "GET / HTTP/1.1\r\nHost: donor\r\n\r\n";
  FakePeer peer(donor);
  auto bytes = std::as_bytes(std::span(http));
  Reply reply = peer.ask(Bytes(bytes.begin(), bytes.end()));
  EXPECT_EQ(reply.status(), Status::kMalformed);
  EXPECT_THAT(reply.text(), HasSubstr("not a hecaton frame"));
  EXPECT_TRUE(peer.session.over());
}

TEST_F(SessionTest, ABodyTooLongForItsOperationIsRefusedBeforeItArrives) {
  for (Operation operation : {Operation::kHello, Operation::kStat, Operation::kReadPages, Operation::kOpenRegion}) {
    FakePeer peer(donor);
    if (operation != Operation::kHello) peer.ask(hello_frame());
    Bytes header(wire::kHeaderBytes);
    wire::encode_header({.operation = operation, .body_bytes = 1u << 20}, header.data());
    EXPECT_EQ(peer.ask(header).status(), Status::kMalformed);
    EXPECT_TRUE(peer.session.over());
  }
}

TEST_F(SessionTest, AReplySentToADonorIsMalformed) {
  FakePeer peer(donor);
  Bytes bytes = hello_frame();
  wire::encode_header({.operation = Operation::kHello, .status = Status::kOk}, bytes.data());
  EXPECT_EQ(peer.ask(bytes).status(), Status::kMalformed);
}

TEST_F(SessionTest, PagesWrittenAreReadBackWithTheirVersions) {
  auto peer = opened_peer();
  Reply written = peer->ask(write_frame(1, pages_from(10, 20), 3));
  ASSERT_EQ(written.status(), Status::kOk) << written.text();
  EXPECT_EQ(wire::decode_write_reply(written.body)->size(), 0u);
  Reply read =
      peer->ask(read_frame(1, {PageNumber(29), PageNumber(9), PageNumber(10), PageNumber(11), PageNumber(10)}));
  ASSERT_EQ(read.status(), Status::kOk);
  wire::PageSetView set = wire::PageSetView::decode(read.body).value();
  EXPECT_EQ(set.present(), 4u);
  EXPECT_EQ(set.entry(0).version, 3u);
  EXPECT_EQ(set.entry(1).state, wire::PageState::kAbsent);
  EXPECT_TRUE(holds_true_pages(read));
}

// What a host compressed comes back as it was sent; a page may be whole, then short, then whole again.
TEST_F(SessionTest, PagesComeBackWithTheLengthsTheyWereSentWith) {
  auto peer = opened_peer();
  uint32_t version = 0;
  for (auto lengths : {std::array<uint16_t, 3>{100, kPageBytes, 1}, {kPageBytes, 3000, kPageBytes}}) {
    ++version;
    Bytes body(wire::page_set_head_bytes(lengths.size())), stored;
    std::vector<wire::PageEntry> entries;
    for (uint64_t i = 0; i < lengths.size(); ++i) {
      Bytes content = content_of(PageNumber(i), version);
      content.resize(lengths[i]);
      entries.push_back({PageNumber(i), wire::page_checksum(content, PageNumber(i), version), version,
                         wire::PageState::kPresent, lengths[i]});
      stored = stored + content;
    }
    wire::encode_page_set_head(entries, body.data());
    Reply written = peer->ask(frame(Operation::kWritePages, body + stored, 1));
    ASSERT_EQ(written.status(), Status::kOk) << written.text();
    Reply read = peer->ask(read_frame(1, pages_from(0, 4)));
    ASSERT_EQ(read.status(), Status::kOk);
    wire::PageSetView set = wire::PageSetView::decode(read.body).value();
    EXPECT_EQ(set.present(), 3u);
    EXPECT_TRUE(std::equal(stored.begin(), stored.end(), set.stored(0).data()));
    for (size_t i = 0; i < lengths.size(); ++i) EXPECT_EQ(set.entry(i).stored_bytes, lengths[i]);
  }
}

TEST_F(SessionTest, APageWithAWrongChecksumIsNamedAndItsOldVersionStays) {
  auto peer = opened_peer();
  peer->ask(write_frame(1, pages_from(0, 3), 1));
  Bytes bad = write_frame(1, pages_from(0, 3), 2);
  bad[wire::kHeaderBytes + wire::page_set_head_bytes(3) + kPageBytes + 77] ^= std::byte{1};  // in page 1
  Reply reply = peer->ask(bad);
  wire::PageListView rejected = wire::decode_write_reply(reply.body).value();
  ASSERT_EQ(rejected.size(), 1u);
  EXPECT_EQ(rejected[0], PageNumber(1));
  Reply read = peer->ask(read_frame(1, pages_from(0, 3)));
  wire::PageSetView set = wire::PageSetView::decode(read.body).value();
  EXPECT_EQ(set.entry(0).version, 2u);
  EXPECT_EQ(set.entry(1).version, 1u);
  EXPECT_EQ(set.entry(2).version, 2u);
  EXPECT_TRUE(holds_true_pages(read));
}

TEST_F(SessionTest, PagesBeyondTheRegionAreOutOfRangeAndTheConnectionGoesOn) {
  auto peer = opened_peer(1_MiB, 1_MiB);
  for (const Bytes& bytes : {read_frame(1, {PageNumber(256)}), read_frame(1, {PageNumber(UINT64_MAX)}),
                             write_frame(1, {PageNumber(0), PageNumber(256)}, 1),
                             discard_frame(1, {{PageNumber(0), 257}}), discard_frame(1, {{PageNumber(255), 2}})}) {
    Reply reply = peer->ask(bytes);
    EXPECT_EQ(reply.status(), Status::kOutOfRange) << reply.text();
  }
  EXPECT_EQ(donor.regions.usage().used_bytes, 0u);
  EXPECT_FALSE(peer->session.over());
}

TEST_F(SessionTest, AWriteBeyondTheReservationIsFullAndTakesNothing) {
  auto peer = opened_peer(64_MiB, 4 * kPageBytes);
  EXPECT_EQ(peer->ask(write_frame(1, pages_from(0, 3), 1)).status(), Status::kOk);
  Reply reply = peer->ask(write_frame(1, pages_from(2, 3), 2));
  EXPECT_EQ(reply.status(), Status::kFull);
  EXPECT_THAT(reply.text(), HasSubstr("reserved 16 KiB"));
  EXPECT_EQ(donor.regions.usage().used_bytes, 3 * kPageBytes);
  EXPECT_TRUE(holds_true_pages(peer->ask(read_frame(1, pages_from(0, 5)))));
  EXPECT_EQ(peer->ask(discard_frame(1, {{PageNumber(0), 2}})).status(), Status::kOk);
  EXPECT_EQ(peer->ask(write_frame(1, pages_from(2, 3), 2)).status(), Status::kOk);
}

TEST_F(SessionTest, AWriteOfAbsentOrRepeatedPagesIsMalformed) {
  auto peer = opened_peer();
  EXPECT_EQ(peer->ask(write_frame(1, {PageNumber(2), PageNumber(1), PageNumber(2)}, 1)).status(), Status::kMalformed);
  EXPECT_TRUE(peer->session.over());
  peer = opened_peer();
  Bytes body(wire::page_set_head_bytes(1));
  wire::PageEntry entry{PageNumber(1), 0, 0, wire::PageState::kAbsent};
  wire::encode_page_set_head(std::span(&entry, 1), body.data());
  EXPECT_EQ(peer->ask(frame(Operation::kWritePages, body, 1)).status(), Status::kMalformed);
}

TEST_F(SessionTest, AHandleIsOfItsConnectionOnly) {
  auto owner = opened_peer();
  FakePeer other(donor);
  other.ask(hello_frame());
  EXPECT_EQ(other.ask(read_frame(1, {PageNumber(0)})).status(), Status::kNoRegion);
  EXPECT_EQ(other.ask(write_frame(1, {PageNumber(0)}, 1)).status(), Status::kNoRegion);
  EXPECT_EQ(other.ask(discard_frame(1, {})).status(), Status::kNoRegion);
  EXPECT_EQ(other.ask(frame(Operation::kCloseRegion, {}, 1)).status(), Status::kNoRegion);
  EXPECT_FALSE(other.session.over());
}

TEST_F(SessionTest, AWrongSecretReadsNothing) {
  auto owner = opened_peer();
  FakePeer thief(donor);
  thief.ask(hello_frame());
  Reply reply = thief.ask(open_frame(region_named("vm", 64_MiB, 0, 2)));
  EXPECT_EQ(reply.status(), Status::kRefused);
  EXPECT_THAT(reply.text(), HasSubstr("secret"));
  EXPECT_EQ(thief.ask(read_frame(1, {PageNumber(0)})).status(), Status::kNoRegion);
}

TEST_F(SessionTest, AReplayedOpenFromAnotherProcessIsBusy) {
  auto owner = opened_peer();
  FakePeer replayer(donor);
  replayer.ask(hello_frame(8));
  EXPECT_EQ(replayer.ask(open_frame(region_named("vm", 64_MiB, 4_MiB))).status(), Status::kBusy);
}

TEST_F(SessionTest, ARepeatedOpenOnOneConnectionJoinsAndReservesNothingMore) {
  auto peer = opened_peer();
  Reply again = peer->ask(open_frame(region_named("vm", 64_MiB, 4_MiB)));
  EXPECT_EQ(again.status(), Status::kOk);
  EXPECT_EQ(again.header.region, 2u);
  EXPECT_EQ(donor.regions.usage().reserved_bytes, 4_MiB);
  peer->ask(write_frame(1, {PageNumber(5)}, 9));
  EXPECT_TRUE(holds_true_pages(peer->ask(read_frame(2, {PageNumber(5)}))));
  EXPECT_EQ(peer->ask(frame(Operation::kCloseRegion, {}, 1)).status(), Status::kOk);
  EXPECT_EQ(donor.regions.usage().regions, 1u);
  EXPECT_EQ(peer->ask(frame(Operation::kCloseRegion, {}, 1)).status(), Status::kNoRegion);
  EXPECT_EQ(peer->ask(frame(Operation::kCloseRegion, {}, 2)).status(), Status::kOk);
  EXPECT_EQ(donor.regions.usage().regions, 0u);
}

TEST_F(SessionTest, OneConnectionCannotOpenRegionsWithoutEnd) {
  FakePeer peer(donor);
  peer.ask(hello_frame());
  for (size_t i = 0; i < Requests::kMaxRegions; ++i) {
    ASSERT_EQ(peer.ask(open_frame(region_named("vm" + std::to_string(i), 4096, 0))).status(), Status::kOk);
  }
  EXPECT_EQ(peer.ask(open_frame(region_named("one more", 4096, 0))).status(), Status::kResources);
}

TEST_F(SessionTest, AFullDonorSaysHowMuchIsLeft) {
  auto owner = opened_peer(64_MiB, 6_MiB);
  FakePeer peer(donor);
  peer.ask(hello_frame());
  Reply reply = peer.ask(open_frame(region_named("other", 64_MiB, 4_MiB)));
  EXPECT_EQ(reply.status(), Status::kFull);
  EXPECT_THAT(reply.text(), HasSubstr("2 MiB are free"));
}

TEST_F(SessionTest, ADonorWithTooManyConnectionsSaysSo) {
  DonorState small(kLends, 1);
  FakePeer first(small), second(small);
  Reply reply = second.ask(hello_frame());
  EXPECT_EQ(reply.status(), Status::kResources);
  EXPECT_THAT(reply.text(), HasSubstr("connections"));
  EXPECT_TRUE(second.session.over());
}

TEST_F(SessionTest, TheEndOfTheLastConnectionFreesTheRegion) {
  auto first = opened_peer();
  auto second = opened_peer();
  first->ask(write_frame(1, pages_from(0, 8), 1));
  first.reset();
  EXPECT_EQ(donor.regions.usage().used_bytes, 8 * kPageBytes);
  second->gone = true;
  second->say(read_frame(1, {PageNumber(0)}));  // its reply finds nobody
  EXPECT_TRUE(second->session.over());
  EXPECT_EQ(donor.regions.usage().regions, 0u);  // at once, not when the socket loop gets to it
}

TEST_F(SessionTest, StatCountsRegionsAndConnections) {
  auto peer = opened_peer();
  peer->ask(write_frame(1, pages_from(0, 8), 1));
  FakePeer other(donor);
  wire::StatReply stat = wire::decode_stat_reply(peer->ask(frame(Operation::kStat, {})).body).value();
  EXPECT_EQ(stat.used_bytes, 8 * kPageBytes);
  EXPECT_EQ(stat.reserved_bytes, 4_MiB);
  EXPECT_EQ(stat.regions, 1u);
  EXPECT_EQ(stat.connections, 2u);
}

TEST_F(SessionTest, PipelinedRequestsAreAnsweredInTheirOrder) {
  auto peer = opened_peer();
  Bytes all;
  for (uint64_t id = 1; id <= 50; ++id) {
    Bytes one = id % 2 ? write_frame(1, {PageNumber(id)}, 1, id) : read_frame(1, {PageNumber(id - 1)}, id);
    all = std::move(all) + one;
  }
  peer->say(all);
  std::vector<Reply> replies = peer->replies();
  ASSERT_EQ(replies.size(), 50u);
  for (uint64_t id = 1; id <= 50; ++id) EXPECT_EQ(replies[id - 1].header.request_id, id);
  for (size_t i = 1; i < 50; i += 2) EXPECT_TRUE(holds_true_pages(replies[i]));
}

TEST_F(SessionTest, HowBytesAreCutDoesNotMatter) {
  Bytes all = hello_frame() + open_frame(region_named("vm", 64_MiB, 4_MiB)) + write_frame(1, pages_from(0, 40), 1) +
              read_frame(1, pages_from(0, 60)) + discard_frame(1, {{PageNumber(0), 40}}) +
              read_frame(1, pages_from(0, 2));
  std::mt19937 random(testing::UnitTest::GetInstance()->random_seed());
  for (size_t piece : {size_t{1}, size_t{2}, size_t{23}, size_t{24}, size_t{25}, size_t{4097}, size_t{0}}) {
    FakePeer peer(donor, 4096);
    for (size_t at = 0; at < all.size();) {
      size_t part = std::min(all.size() - at, piece != 0 ? piece : 1 + random() % 6000);
      peer.say(Bytes(all.begin() + static_cast<long>(at), all.begin() + static_cast<long>(at + part)));
      at += part;
    }
    std::vector<Reply> replies = peer.replies();
    ASSERT_EQ(replies.size(), 6u) << piece;
    for (const Reply& reply : replies) EXPECT_EQ(reply.status(), Status::kOk) << piece;
    EXPECT_EQ(wire::PageSetView::decode(replies[3].body)->present(), 40u);
    EXPECT_EQ(wire::PageSetView::decode(replies[5].body)->present(), 0u);
    EXPECT_FALSE(peer.session.awaits_rest());
  }
}

TEST_F(SessionTest, APartialFrameIsAwaitedAndItsTruncationChangesNothing) {
  auto peer = opened_peer();
  Bytes whole = write_frame(1, pages_from(0, 4), 1);
  for (size_t length : {size_t{1}, wire::kHeaderBytes, wire::kHeaderBytes + 9, whole.size() - 1}) {
    auto other = opened_peer();
    EXPECT_FALSE(other->session.awaits_rest());
    other->say(Bytes(whole.begin(), whole.begin() + static_cast<long>(length)));
    EXPECT_FALSE(other->session.awaits_rest());  // a running VM's pager is not hurried
    other->session.peer_closed();
    EXPECT_TRUE(other->session.over());
  }
  EXPECT_EQ(donor.regions.usage().used_bytes, 0u);
}

TEST_F(SessionTest, NothingIsReadWhileAReplyIsUnsent) {
  auto peer = opened_peer();
  peer->ask(write_frame(1, pages_from(0, 64), 1));
  peer->room = 1000;
  Bytes requests = read_frame(1, pages_from(0, 64), 1) + read_frame(1, pages_from(0, 1), 2);
  EXPECT_EQ(peer->say(requests), requests.size());  // one piece: the second request is held, not answered
  EXPECT_TRUE(peer->session.wants_to_send());
  EXPECT_FALSE(peer->session.wants_to_receive());
  EXPECT_EQ(peer->session.frames(), 4u);
  peer->room = SIZE_MAX;
  peer->session.flush();
  EXPECT_TRUE(peer->session.wants_to_receive());
  std::vector<Reply> replies = peer->replies();
  ASSERT_EQ(replies.size(), 2u);
  EXPECT_TRUE(holds_true_pages(replies[0]));
  EXPECT_TRUE(holds_true_pages(replies[1]));
}

TEST_F(SessionTest, AReplyThatWaitsIsNotTornByALaterWrite) {
  auto reader = opened_peer();
  auto writer = opened_peer();
  writer->ask(write_frame(1, pages_from(0, 64), 1));
  reader->room = 50'000;
  reader->say(read_frame(1, pages_from(0, 64)));
  writer->ask(write_frame(1, pages_from(0, 64), 2));
  writer->ask(discard_frame(1, {{PageNumber(0), 10}}));
  while (reader->session.wants_to_send()) {
    reader->room = 30'000;
    reader->session.flush();
  }
  std::vector<Reply> replies = reader->replies();
  ASSERT_EQ(replies.size(), 1u);
  wire::PageSetView set = wire::PageSetView::decode(replies[0].body).value();
  EXPECT_EQ(set.present(), 64u);
  EXPECT_EQ(set.entry(63).version, 1u);
  EXPECT_TRUE(holds_true_pages(replies[0]));
}

TEST_F(SessionTest, AMalformedFrameAmongPipelinedOnesIsTheLastAnswered) {
  auto peer = opened_peer();
  peer->say(read_frame(1, {PageNumber(0)}, 1) + frame(Operation::kReadPages, Bytes(9), 1, 2) +
            write_frame(1, {PageNumber(0)}, 1, 3));
  std::vector<Reply> replies = peer->replies();
  ASSERT_EQ(replies.size(), 2u);
  EXPECT_EQ(replies[1].status(), Status::kMalformed);
  EXPECT_EQ(replies[1].header.request_id, 2u);
  EXPECT_TRUE(peer->session.over());
}

TEST_F(SessionTest, WhenToldToCloseItSendsWhatIsUnsentFirst) {
  auto peer = opened_peer();
  peer->ask(write_frame(1, pages_from(0, 64), 1));
  peer->room = 1000;
  peer->say(read_frame(1, pages_from(0, 64)));
  peer->session.close_when_sent();
  EXPECT_FALSE(peer->session.over());
  peer->room = SIZE_MAX;
  peer->session.flush();
  EXPECT_TRUE(peer->session.over());
  EXPECT_TRUE(holds_true_pages(peer->replies().at(0)));
}

// Invariant 7: whatever arrives, every answer is a well-formed reply, and nothing asserts.
TEST_F(SessionTest, RandomDamageToGoodFramesIsAlwaysAnswered) {
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed());
  Bytes good = hello_frame() + open_frame(region_named("vm", 1_MiB, 1_MiB)) + write_frame(1, pages_from(0, 2), 1) +
               read_frame(1, pages_from(0, 4)) + discard_frame(1, {{PageNumber(0), 4}}) + frame(Operation::kStat, {}) +
               frame(Operation::kCloseRegion, {}, 1);
  for (int round = 0; round < 2000; ++round) {
    Bytes bad = good;
    for (uint64_t i = 0; i <= random() % 4; ++i) bad[random() % bad.size()] = static_cast<std::byte>(random());
    FakePeer peer(donor);
    peer.say(bad, 1 + random() % 9000);
    for (const Reply& reply : peer.replies()) EXPECT_NE(reply.status(), Status::kRequest);
  }
  EXPECT_EQ(donor.connections, 0u);
  EXPECT_EQ(donor.regions.usage().regions, 0u);
}

TEST_F(SessionTest, AReservationIsLoweredAndRaisedWithinWhatIsLent) {
  auto peer = opened_peer();
  peer->ask(write_frame(1, pages_from(0, 16), 1));
  Reply lower = peer->ask(reserve_frame(1, 1_MiB));
  ASSERT_EQ(lower.status(), Status::kOk) << lower.text();
  EXPECT_EQ(wire::decode_reserve(lower.body).value(), 1_MiB);
  EXPECT_EQ(donor.regions.usage().free_bytes(), kLends - 1_MiB);
  EXPECT_EQ(wire::decode_reserve(peer->ask(reserve_frame(1, 0)).body).value(), 16 * kPageBytes);
  EXPECT_EQ(peer->ask(write_frame(1, pages_from(16, 1), 1)).status(), Status::kFull);
  EXPECT_EQ(peer->ask(reserve_frame(1, kLends + kPageBytes)).status(), Status::kFull);
  EXPECT_EQ(peer->ask(reserve_frame(1, kLends)).status(), Status::kOk);
  EXPECT_EQ(peer->ask(write_frame(1, pages_from(16, 1), 1)).status(), Status::kOk);
  EXPECT_EQ(peer->ask(reserve_frame(2, 1_MiB)).status(), Status::kNoRegion);
  EXPECT_EQ(peer->ask(frame(Operation::kReserve, Bytes(4), 1)).status(), Status::kMalformed);
}

TEST_F(SessionTest, AfterACloseNothingLingersAndWithoutOneStatSaysWhatDoes) {
  int64_t now_ns = 0;
  DonorState keeps(kLends, 100, {.grace_ns = 2'000'000'000, .now_ns = [&] { return now_ns; }});
  FakePeer observer(keeps);
  observer.ask(hello_frame(8));
  auto stat = [&] { return wire::decode_stat_reply(observer.ask(frame(Operation::kStat, {})).body).value(); };
  for (bool closes : {false, true}) {
    FakePeer peer(keeps);
    peer.ask(hello_frame());
    peer.ask(open_frame(region_named("vm", 64_MiB, 4_MiB)));
    if (closes) peer.ask(frame(Operation::kCloseRegion, {}, 1));
    peer.session.peer_closed();
    EXPECT_EQ(stat().lingering_regions, closes ? 0u : 1u);
    EXPECT_EQ(stat().lingering_bytes, closes ? 0 : 4_MiB);
    EXPECT_EQ(stat().lingering_ms, closes ? 0u : 2000u);
    EXPECT_EQ(stat().regions, closes ? 0u : 1u);
  }
}

}  // namespace
}  // namespace hecaton::donor
