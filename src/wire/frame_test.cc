#include "wire/frame.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace hecaton::wire {
namespace {

std::array<std::byte, kHeaderBytes> header_bytes(const FrameHeader& header) {
  std::array<std::byte, kHeaderBytes> bytes;
  encode_header(header, bytes.data());
  return bytes;
}

TEST(Frame, HeaderSurvivesTheWire) {
  FrameHeader sent{Operation::kWritePages, Status::kOk, 4711, 3, 0x1122334455667788};
  auto bytes = header_bytes(sent);
  FrameHeader got = decode_header(bytes).value();
  EXPECT_EQ(got.operation, sent.operation);
  EXPECT_EQ(got.status, sent.status);
  EXPECT_EQ(got.body_bytes, sent.body_bytes);
  EXPECT_EQ(got.region, sent.region);
  EXPECT_EQ(got.request_id, sent.request_id);
}

TEST(Frame, AnImpossibleHeaderIsRefused) {
  auto good = header_bytes({});
  for (size_t at : {0u, 4u, 5u, 6u}) {  // magic, version, operation, status
    auto bad = good;
    bad[at] = std::byte{0};
    EXPECT_FALSE(decode_header(bad).ok()) << at;
  }
  EXPECT_FALSE(decode_header(header_bytes({.body_bytes = kMaxBodyBytes + 1})).ok());
}

TEST(Frame, HelloAndOpenSurviveTheWire) {
  Hello hello{1, 2, Role::kPrefetch, 42, "0.1.0"};
  Hello got = decode_hello(encode(hello)).value();
  EXPECT_EQ(got.role, Role::kPrefetch);
  EXPECT_EQ(got.client_instance, 42u);
  EXPECT_EQ(got.software, "0.1.0");
  OpenRegion open{1_MiB, 2_MiB, {}, "vm"};
  open.secret[5] = std::byte{9};
  open.epoch = 7;
  OpenRegion opened = decode_open_region(encode(open)).value();
  EXPECT_EQ(opened.secret, open.secret);
  EXPECT_EQ(opened.reserve_bytes, 2_MiB);
  EXPECT_EQ(opened.name, "vm");
  EXPECT_EQ(opened.epoch, 7u);
}

TEST(Frame, AnOpenOfAnImpossibleRegionIsRefused) {
  EXPECT_FALSE(decode_open_region(encode(OpenRegion{0, 0, {}, "vm"})).ok());
  EXPECT_FALSE(decode_open_region(encode(OpenRegion{4097, 0, {}, "vm"})).ok());
  EXPECT_FALSE(decode_open_region(encode(OpenRegion{kMaxRegionBytes + kPageBytes, 0, {}, "vm"})).ok());
  EXPECT_FALSE(decode_open_region(encode(OpenRegion{4096, 0, {}, ""})).ok());
  EXPECT_FALSE(decode_open_region(encode(OpenRegion{4096, 0, {}, "a\nb"})).ok());
  EXPECT_FALSE(decode_open_region(encode(OpenRegion{4096, 0, {}, "vm", 0})).ok());
}

TEST(Frame, PageSetKeepsEntriesAndBytesTogether) {
  PageEntry entries[] = {{PageNumber(7), 1, 2, PageState::kPresent, 1000},
                         {PageNumber(8), 0, 0, PageState::kAbsent},
                         {PageNumber(9), 3, 4, PageState::kPresent}};
  std::vector<std::byte> body(page_set_head_bytes(3) + 1000 + kPageBytes);
  encode_page_set_head(entries, body.data());
  body[page_set_head_bytes(3) + 999] = std::byte{0x11};
  body.back() = std::byte{0x5a};
  PageSetView view = PageSetView::decode(body).value();
  ASSERT_EQ(view.size(), 3u);
  EXPECT_EQ(view.present(), 2u);
  EXPECT_EQ(view.entry(2).version, 4u);
  EXPECT_EQ(view.stored(0).size(), 1000u);
  EXPECT_EQ(view.stored(0).back(), std::byte{0x11});
  EXPECT_TRUE(view.stored(1).empty());
  PageSetCursor cursor(view);
  for (size_t i = 0; i < 3; ++i) {
    auto page = cursor.next();
    ASSERT_TRUE(page);
    EXPECT_EQ(page->entry.page, entries[i].page);
    EXPECT_EQ(page->stored.size(), view.stored(i).size());
    EXPECT_EQ(page->stored.data(), view.stored(i).data());
  }
  EXPECT_FALSE(cursor.next());
  EXPECT_EQ(view.stored(2).back(), std::byte{0x5a});
}

// The bytes that entries claim are the bytes that follow: neither nothing for a page that is there, nor more than a
// page, nor something for one that is not, nor less or more than was sent.
TEST(Frame, APageSetWhoseLengthsDoNotFitItsBytesIsRefused) {
  auto decodes = [](PageState state, uint16_t claimed, size_t sent) {
    const PageEntry entry{PageNumber(7), 1, 2, state, claimed};
    std::vector<std::byte> body(page_set_head_bytes(1) + sent);
    encode_page_set_head(std::span(&entry, 1), body.data());
    std::memcpy(body.data() + page_set_head_bytes(1) - sizeof claimed, &claimed, sizeof claimed);
    return PageSetView::decode(body).ok();
  };
  EXPECT_TRUE(decodes(PageState::kPresent, 1, 1));
  EXPECT_TRUE(decodes(PageState::kPresent, kPageBytes, kPageBytes));
  EXPECT_TRUE(decodes(PageState::kAbsent, 0, 0));
  EXPECT_FALSE(decodes(PageState::kPresent, 0, 0));
  EXPECT_FALSE(decodes(PageState::kPresent, kPageBytes + 1, kPageBytes + 1));
  EXPECT_FALSE(decodes(PageState::kAbsent, 10, 10));
  EXPECT_FALSE(decodes(PageState::kPresent, 100, 99));
  EXPECT_FALSE(decodes(PageState::kPresent, 100, 101));
}

// Invariant 7: whatever a peer sends, the decoders answer; they never read outside the body or assert.
TEST(Frame, EveryTruncationAndRandomBodyIsAnsweredWithoutAssertion) {
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed());
  auto try_all = [](std::span<const std::byte> body) {
    (void)decode_hello(body).ok();
    (void)decode_hello_reply(body).ok();
    (void)decode_open_region(body).ok();
    (void)decode_stat_reply(body).ok();
    (void)decode_discard(body).ok();
    (void)decode_reserve(body).ok();
    (void)decode_text(body);
    if (auto list = PageListView::decode(body); list.ok()) {
      for (size_t i = 0; i < list->size(); ++i) (void)list.value()[i];
    }
    if (auto set = PageSetView::decode(body); set.ok()) {
      PageSetCursor pages(*set);
      while (auto page = pages.next()) {
        if (page->entry.state == PageState::kPresent) (void)page_checksum(page->stored, page->entry.page, 1);
      }
    }
  };
  std::vector<std::byte> hello = encode(Hello{kProtocolVersion, kProtocolVersion, Role::kDemand, 1, "x"});
  for (size_t length = 0; length <= hello.size(); ++length) {
    std::vector<std::byte> cut(hello.begin(), hello.begin() + static_cast<long>(length));
    EXPECT_EQ(decode_hello(cut).ok(), length == hello.size());
    try_all(cut);
  }
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> body(random() % 96);
    for (std::byte& b : body) b = static_cast<std::byte>(random() % 3 == 0 ? random() : 0);
    try_all(body);
  }
}

TEST(Frame, AReservationComesBackAsItWasSentAndOnlyWithItsOwnLength) {
  auto body = encode_reserve(uint64_t{5} << 40);
  EXPECT_EQ(decode_reserve(body).value(), uint64_t{5} << 40);
  EXPECT_FALSE(decode_reserve(std::span(body).first(7)).ok());
  EXPECT_FALSE(decode_reserve(std::vector<std::byte>(9)).ok());
}

TEST(Frame, AStatReplyComesBackAsItWasSent) {
  const StatReply sent{9, 1 << 30, 4096, 1 << 20, 4, 3, 2, 1 << 19, 30'000};
  StatReply got = decode_stat_reply(encode(sent)).value();
  EXPECT_EQ(got.regions, sent.regions);
  EXPECT_EQ(got.lingering_regions, sent.lingering_regions);
  EXPECT_EQ(got.lingering_bytes, sent.lingering_bytes);
  EXPECT_EQ(got.lingering_ms, sent.lingering_ms);
}

TEST(Checksum, IsBoundToPlaceAndVersion) {
  std::vector<std::byte> page(kPageBytes, std::byte{3});
  uint64_t sum = page_checksum(page, PageNumber(5), 1);
  EXPECT_EQ(sum, page_checksum(page, PageNumber(5), 1));
  EXPECT_NE(sum, page_checksum(page, PageNumber(6), 1));
  EXPECT_NE(sum, page_checksum(page, PageNumber(5), 2));
  page[100] = std::byte{4};
  EXPECT_NE(sum, page_checksum(page, PageNumber(5), 1));
}

}  // namespace
}  // namespace hecaton::wire
