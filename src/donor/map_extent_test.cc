// The request of a host that reads memory by itself: what a donor exposes, for how long, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "donor/fake_peer_for_tests.h"
#include "donor/session.h"

namespace hecaton::donor {
namespace {

using testing::HasSubstr;
using wire::Operation;
using wire::Status;

// Counts what is exposed, and gives every exposure a key of its own.
class FakeExposer final : public MemoryExposer {
 public:
  Result<std::unique_ptr<Exposure>> expose(std::span<std::byte> memory, uint64_t address) override {
    if (fails) return Error{ErrorCode::kSystem, ENOMEM, "registering memory"};
    exposed.push_back({memory, address});
    return std::unique_ptr<Exposure>(std::make_unique<Counted>(this, static_cast<uint32_t>(exposed.size())));
  }
  struct Exposed {
    std::span<std::byte> memory;
    uint64_t address;
  };
  std::vector<Exposed> exposed;
  size_t live = 0;
  bool fails = false;

 private:
  class Counted final : public Exposure {
   public:
    Counted(FakeExposer* owner, uint32_t key) : owner_(owner), key_(key) { ++owner_->live; }
    ~Counted() override { --owner_->live; }
    uint32_t key() const override { return key_; }

   private:
    FakeExposer* owner_;
    uint32_t key_;
  };
};

Bytes map_frame(uint64_t extent, uint32_t region = 1) {
  return frame(Operation::kMapExtent, wire::encode_map_extent(ExtentNumber(extent)), region);
}

class MapExtentTest : public testing::Test {
 protected:
  // A connection with region "vm" open, as handle 1.
  std::unique_ptr<FakePeer> rdma_peer() { return peer_with(&exposer); }
  std::unique_ptr<FakePeer> peer_with(MemoryExposer* exposes) {
    auto peer = std::make_unique<FakePeer>(donor, 64 * 1024, exposes);
    EXPECT_EQ(peer->ask(hello_frame()).status(), Status::kOk);
    EXPECT_EQ(peer->ask(open_frame(region_named("vm", 64_MiB, 2_MiB))).status(), Status::kOk);
    return peer;
  }
  DonorState donor{8_MiB, 100};
  FakeExposer exposer;
};

TEST_F(MapExtentTest, TellsTheKeysOfPagesAndRecordsAtTheirPlaceInTheRegion) {
  auto peer = rdma_peer();
  peer->ask(write_frame(1, pages_from(300, 1), 5));
  wire::ExtentKeys keys = wire::decode_extent_keys(peer->ask(map_frame(1)).body).value();
  EXPECT_EQ(keys.extent, ExtentNumber(1));
  EXPECT_EQ(keys.pages_key, 1u);
  EXPECT_EQ(keys.records_key, 2u);
  ASSERT_EQ(exposer.exposed.size(), 2u);
  const PageNumber page(300);
  const auto& [pages, records] = std::pair(exposer.exposed[0], exposer.exposed[1]);
  EXPECT_EQ(pages.address, 1_MiB);
  EXPECT_EQ(std::memcmp(pages.memory.data() + wire::page_address(page) - pages.address, content_of(page, 5).data(),
                        kPageBytes),
            0);
  wire::PageRecord record;
  std::memcpy(&record, records.memory.data() + wire::record_address(page) - records.address, sizeof record);
  EXPECT_EQ(record.stored_bytes, kPageBytes);
  EXPECT_EQ(record.version, 5u);
}

TEST_F(MapExtentTest, MapsAnExtentOnceHoweverOftenItIsAsked) {
  auto peer = rdma_peer();
  Reply first = peer->ask(map_frame(0)), second = peer->ask(map_frame(0));
  EXPECT_EQ(first.body, second.body);
  EXPECT_EQ(exposer.live, 2u);
  EXPECT_EQ(exposer.exposed.size(), 2u);
}

TEST_F(MapExtentTest, WhatIsExposedEndsWithTheRegionOrTheConnection) {
  auto peer = rdma_peer();
  peer->ask(map_frame(0));
  EXPECT_EQ(peer->ask(frame(Operation::kCloseRegion, {}, 1)).status(), Status::kOk);
  EXPECT_EQ(exposer.live, 0u);
  auto other = rdma_peer();
  other->ask(map_frame(0));
  other->session.peer_closed();
  EXPECT_EQ(exposer.live, 0u);
}

TEST_F(MapExtentTest, TakesNoMoreMemoryThanTheRegionReserved) {
  auto peer = rdma_peer();
  EXPECT_EQ(peer->ask(map_frame(0)).status(), Status::kOk);
  EXPECT_EQ(peer->ask(map_frame(1)).status(), Status::kOk);
  Reply third = peer->ask(map_frame(2));
  EXPECT_EQ(third.status(), Status::kFull);
  EXPECT_THAT(third.text(), HasSubstr("reserved 2 MiB"));
  EXPECT_EQ(exposer.live, 4u);
  EXPECT_EQ(peer->ask(write_frame(1, pages_from(2 * kPagesPerExtent, 1), 1)).status(), Status::kFull);
  EXPECT_EQ(peer->ask(write_frame(1, pages_from(0, 2), 1)).status(), Status::kOk);
}

TEST_F(MapExtentTest, AMachineThatCannotExposeMemoryRefusesAndServesOn) {
  auto peer = rdma_peer();
  exposer.fails = true;
  Reply reply = peer->ask(map_frame(0));
  EXPECT_EQ(reply.status(), Status::kResources);
  EXPECT_THAT(reply.text(), HasSubstr("registering memory"));
  EXPECT_EQ(donor.regions.usage().used_bytes, 0u);
  EXPECT_EQ(peer->ask(write_frame(1, pages_from(0, 1), 1)).status(), Status::kOk);
}

TEST_F(MapExtentTest, IsRefusedWhereItMakesNoSense) {
  auto tcp = peer_with(nullptr);
  EXPECT_EQ(tcp->ask(map_frame(0)).status(), Status::kRefused);
  tcp.reset();
  auto peer = rdma_peer();
  EXPECT_EQ(peer->ask(map_frame(64)).status(), Status::kOutOfRange);
  EXPECT_EQ(peer->ask(map_frame(UINT64_MAX)).status(), Status::kOutOfRange);
  EXPECT_EQ(peer->ask(map_frame(0, 9)).status(), Status::kNoRegion);
  EXPECT_EQ(peer->ask(frame(Operation::kMapExtent, Bytes(3), 1)).status(), Status::kMalformed);
  EXPECT_TRUE(peer->session.over());
  EXPECT_TRUE(exposer.exposed.empty());
}

}  // namespace
}  // namespace hecaton::donor
