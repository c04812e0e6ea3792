#include "store/direct_reads.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <deque>
#include <map>

namespace hecaton {
namespace {

// A donor's memory, and a device that reads it when the test says so.
class FakeDevice final : public DirectReader {
 public:
  static constexpr uint32_t kPagesKey = 11, kRecordsKey = 22;

  Result<std::span<std::byte>> local_memory(size_t bytes) override {
    local_.resize(bytes);
    return std::span(local_);
  }
  bool read(uint32_t tag, std::span<const Piece> pieces) override {
    if (full) return false;
    waiting_.push_back({tag, {pieces.begin(), pieces.end()}});
    pieces_asked += pieces.size();
    return true;
  }
  std::optional<uint32_t> next_done() override {
    if (done_.empty()) return std::nullopt;
    uint32_t tag = done_.front();
    done_.pop_front();
    return tag;
  }
  void work() {
    for (; !waiting_.empty(); waiting_.pop_front()) {
      for (const Piece& piece : waiting_.front().pieces) fetch(piece);
      done_.push_back(waiting_.front().tag);
    }
  }
  void put(PageNumber page, uint32_t version, uint32_t stored_bytes = kPageBytes) {
    Page& kept = pages_[page.value];
    kept.bytes.assign(kPageBytes, static_cast<std::byte>(page.value * 7 + version));
    kept.record = {wire::page_checksum(std::span(kept.bytes).first(stored_bytes), page, version), version,
                   stored_bytes};
  }

  bool full = false;
  size_t pieces_asked = 0;

 private:
  struct Page {
    std::vector<std::byte> bytes;
    wire::PageRecord record;
  };
  struct Waiting {
    uint32_t tag;
    std::vector<Piece> pieces;
  };
  void fetch(const Piece& piece) {
    ASSERT_GE(piece.into, local_.data());
    ASSERT_LE(piece.into + piece.bytes, local_.data() + local_.size());
    const bool records = piece.key == kRecordsKey;
    ASSERT_TRUE(records || piece.key == kPagesKey);
    const uint64_t unit = records ? sizeof(wire::PageRecord) : kPageBytes;
    for (uint64_t at = 0; at < piece.bytes; at += unit) {
      auto page = pages_.find((piece.address + at) / unit);
      std::memset(piece.into + at, 0, unit);
      if (page == pages_.end()) continue;
      std::memcpy(piece.into + at,
                  records ? reinterpret_cast<const std::byte*>(&page->second.record) : page->second.bytes.data(), unit);
    }
  }
  std::vector<std::byte> local_;
  std::map<uint64_t, Page> pages_;
  std::deque<Waiting> waiting_;
  std::deque<uint32_t> done_;
};

class DirectReadsTest : public testing::Test {
 protected:
  std::unique_ptr<DirectReads> reads(DirectReads::Shape shape = {4, 8}, uint64_t extents = 4) {
    return DirectReads::create(device, shape, extents).value();
  }
  void map(DirectReads& reads, uint64_t extent) {
    ASSERT_TRUE(reads.should_map(ExtentNumber(extent)));
    ASSERT_TRUE(reads
                    .on_map_reply(
                        wire::Status::kOk,
                        encode(wire::ExtentKeys{ExtentNumber(extent), FakeDevice::kPagesKey, FakeDevice::kRecordsKey}))
                    .ok());
  }
  FakeDevice device;
};

std::vector<PageNumber> pages(std::initializer_list<uint64_t> numbers) {
  std::vector<PageNumber> out;
  for (uint64_t number : numbers) out.push_back(PageNumber(number));
  return out;
}

TEST_F(DirectReadsTest, AnExtentIsAskedForOnceAndReadOnceItsKeysAreThere) {
  auto direct = reads();
  EXPECT_FALSE(direct->try_read(1, pages({300})));
  EXPECT_TRUE(direct->should_map(ExtentNumber(1)));
  EXPECT_FALSE(direct->should_map(ExtentNumber(1)));
  EXPECT_FALSE(direct->try_read(1, pages({300})));
  auto keys = encode(wire::ExtentKeys{ExtentNumber(1), FakeDevice::kPagesKey, FakeDevice::kRecordsKey});
  ASSERT_TRUE(direct->on_map_reply(wire::Status::kOk, keys).ok());
  EXPECT_TRUE(direct->try_read(1, pages({300})));
  EXPECT_FALSE(direct->try_read(1, pages({10})));
}

TEST_F(DirectReadsTest, TheBodyIsThatOfADonorsReply) {
  auto direct = reads();
  map(*direct, 0);
  for (uint64_t page : {3, 4, 5, 9}) device.put(PageNumber(page), static_cast<uint32_t>(page));
  ASSERT_TRUE(direct->try_read(77, pages({3, 4, 5, 9})));
  EXPECT_EQ(device.pieces_asked, 3u);  // records, a run, a page
  EXPECT_FALSE(direct->next_done());
  device.work();
  auto done = direct->next_done();
  ASSERT_TRUE(done);
  EXPECT_EQ(done->request_id, 77u);
  wire::PageSetView set = wire::PageSetView::decode(done->body).value();
  ASSERT_EQ(set.present(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    wire::PageEntry entry = set.entry(i);
    EXPECT_EQ(entry.page.value, (std::array{3u, 4u, 5u, 9u})[i]);
    EXPECT_EQ(entry.version, entry.page.value);
    EXPECT_EQ(entry.checksum, wire::page_checksum(set.stored(i), entry.page, entry.version));
  }
  EXPECT_FALSE(direct->next_done());
}

TEST_F(DirectReadsTest, APageThatTheDonorHasNotIsAbsentAndMovesNoOther) {
  auto direct = reads();
  map(*direct, 0);
  device.put(PageNumber(3), 1);
  device.put(PageNumber(5), 2);
  ASSERT_TRUE(direct->try_read(1, pages({3, 4, 5})));
  device.work();
  auto done = direct->next_done();
  ASSERT_TRUE(done);
  wire::PageSetView set = wire::PageSetView::decode(done->body).value();
  ASSERT_EQ(set.size(), 3u);
  ASSERT_EQ(set.present(), 2u);
  EXPECT_EQ(set.entry(1).state, wire::PageState::kAbsent);
  EXPECT_EQ(set.entry(2).checksum, wire::page_checksum(set.stored(2), PageNumber(5), 2));
}

// The device brings whole slots; a body has only the bytes that stand for a page.
TEST_F(DirectReadsTest, ACompressedPageComesWithItsStoredBytesAndMovesNoOther) {
  auto direct = reads();
  map(*direct, 0);
  device.put(PageNumber(3), 1, 900);
  device.put(PageNumber(4), 2);
  device.put(PageNumber(6), 3, 1);
  ASSERT_TRUE(direct->try_read(1, pages({3, 4, 5, 6})));
  device.work();
  auto done = direct->next_done();
  ASSERT_TRUE(done);
  wire::PageSetView set = wire::PageSetView::decode(done->body).value();
  ASSERT_EQ(set.present(), 3u);
  EXPECT_EQ(set.stored(0).size(), 900u);
  EXPECT_EQ(set.stored(3).size(), 1u);
  for (size_t i : {0u, 1u, 3u}) {
    const wire::PageEntry entry = set.entry(i);
    EXPECT_EQ(entry.checksum, wire::page_checksum(set.stored(i), entry.page, entry.version)) << i;
  }
}

TEST_F(DirectReadsTest, WhatItCannotDoIsLeftToTheDonor) {
  auto direct = reads();
  map(*direct, 0);
  map(*direct, 1);
  EXPECT_FALSE(direct->try_read(1, {}));
  EXPECT_FALSE(direct->try_read(1, pages({1, 2, 3, 4, 5, 6, 7, 8, 9})));  // more than a slot holds
  EXPECT_FALSE(direct->try_read(1, pages({255, 256})));                   // of two extents
  EXPECT_FALSE(direct->try_read(1, pages({5, 4})));
  device.full = true;
  EXPECT_FALSE(direct->try_read(1, pages({1})));
  device.full = false;
  for (uint64_t i = 0; i < 4; ++i) EXPECT_TRUE(direct->try_read(i, pages({i})));
  EXPECT_FALSE(direct->try_read(4, pages({4})));  // no slot
  device.work();
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(direct->next_done()->request_id, i);
  EXPECT_FALSE(direct->next_done());
  for (uint64_t i = 0; i < 4; ++i) EXPECT_TRUE(direct->try_read(i, pages({i})));
}

TEST_F(DirectReadsTest, ARefusalIsFinalAndAMappingNobodyAskedForBreaksTheProtocol) {
  auto direct = reads();
  EXPECT_TRUE(direct->should_map(ExtentNumber(0)));
  EXPECT_TRUE(direct->on_map_reply(wire::Status::kFull, {}).ok());
  EXPECT_FALSE(direct->should_map(ExtentNumber(0)));
  EXPECT_FALSE(direct->try_read(1, pages({1})));
  auto foreign = encode(wire::ExtentKeys{ExtentNumber(9), 1, 2});
  EXPECT_EQ(direct->on_map_reply(wire::Status::kOk, foreign).error().code, ErrorCode::kProtocol);
  EXPECT_EQ(direct->on_map_reply(wire::Status::kOk, std::span(foreign).first(5)).error().code, ErrorCode::kProtocol);
}

TEST_F(DirectReadsTest, ItMapsNoMoreExtentsThanTheDonorMayHold) {
  auto direct = reads({4, 8}, 3);
  for (uint64_t extent : {5, 1 << 20, 77}) map(*direct, extent);
  EXPECT_FALSE(direct->should_map(ExtentNumber(6)));
  for (uint64_t extent : {5, 1 << 20, 77}) {
    EXPECT_TRUE(direct->try_read(1, pages({extent * kPagesPerExtent}))) << extent;
  }
}

}  // namespace
}  // namespace hecaton
