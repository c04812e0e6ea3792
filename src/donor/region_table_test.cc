#include "donor/region_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "donor/frames_for_tests.h"

namespace hecaton::donor {
namespace {

using testing::HasSubstr;
using wire::Status;
using Attachment = RegionTable::Attachment;

std::unique_ptr<Attachment> granted(std::variant<Attachment, Refusal> outcome) {
  if (auto* refusal = std::get_if<Refusal>(&outcome)) {
    ADD_FAILURE() << refusal->text;
    return nullptr;
  }
  return std::make_unique<Attachment>(std::move(std::get<Attachment>(outcome)));
}

Refusal refused(std::variant<Attachment, Refusal> outcome) {
  if (auto* refusal = std::get_if<Refusal>(&outcome)) return *refusal;
  ADD_FAILURE() << "granted";
  return {Status::kOk, ""};
}

TEST(RegionTable, ReservationsAreTakenFromWhatIsLentAndComeBack) {
  RegionTable table(16_MiB);
  {
    auto first = granted(table.open(region_named("a", 32_MiB, 10_MiB), 1));
    auto second = granted(table.open(region_named("b", 8_MiB, 6_MiB), 2));
    EXPECT_EQ(table.usage().free_bytes(), 0u);
    EXPECT_EQ(table.usage().regions, 2u);
  }
  EXPECT_EQ(table.usage().free_bytes(), 16_MiB);
  EXPECT_EQ(table.usage().regions, 0u);
}

TEST(RegionTable, ReservationsNeverExceedWhatIsLentAndTheRefusalSaysHowMuchThereIs) {
  RegionTable table(16_MiB);
  auto first = granted(table.open(region_named("a", 32_MiB, 10_MiB), 1));
  Refusal full = refused(table.open(region_named("b", 32_MiB, 7_MiB), 2));
  EXPECT_EQ(full.status, Status::kFull);
  EXPECT_THAT(full.text, HasSubstr("needs 7 MiB"));
  EXPECT_THAT(full.text, HasSubstr("lends 16 MiB"));
  EXPECT_THAT(full.text, HasSubstr("10 MiB are reserved"));
  EXPECT_THAT(full.text, HasSubstr("6 MiB are free"));
  EXPECT_EQ(table.usage().reserved_bytes, 10_MiB);
  auto fits = granted(table.open(region_named("b", 32_MiB, 6_MiB), 2));
}

TEST(RegionTable, AReservationOfHostileSizeIsCutAtTheRegionAndDoesNotOverflow) {
  RegionTable table(16_MiB);
  auto all = granted(table.open(region_named("a", 8_MiB, UINT64_MAX), 1));
  EXPECT_EQ(table.usage().reserved_bytes, 8_MiB);
  EXPECT_EQ(refused(table.open(region_named("b", wire::kMaxRegionBytes, UINT64_MAX), 1)).status, Status::kFull);
}

TEST(RegionTable, ARegionLivesAsLongAsItsLastAttachment) {
  RegionTable table(16_MiB);
  auto first = granted(table.open(region_named("a", 1_MiB, 1_MiB), 1));
  auto second = granted(table.open(region_named("a", 1_MiB, 1_MiB), 1));
  EXPECT_EQ(&first->region(), &second->region());
  EXPECT_EQ(table.usage().reserved_bytes, 1_MiB);
  first.reset();
  EXPECT_EQ(table.usage().regions, 1u);
  second.reset();
  EXPECT_EQ(table.usage().regions, 0u);
}

TEST(RegionTable, AWrongSecretIsRefusedWhoeverAsks) {
  RegionTable table(16_MiB);
  auto first = granted(table.open(region_named("a", 1_MiB, 1_MiB, 1), 1));
  EXPECT_EQ(refused(table.open(region_named("a", 1_MiB, 1_MiB, 2), 1)).status, Status::kRefused);
  EXPECT_EQ(refused(table.open(region_named("a", 1_MiB, 1_MiB, 2), 9)).status, Status::kRefused);
  auto almost = region_named("a", 1_MiB, 1_MiB, 1);
  almost.secret.back() ^= std::byte{1};
  EXPECT_EQ(refused(table.open(almost, 1)).status, Status::kRefused);
}

TEST(RegionTable, AnotherInstanceIsBusyUntilTheFirstIsGone) {
  RegionTable table(16_MiB);
  auto first = granted(table.open(region_named("a", 1_MiB, 1_MiB), 1));
  EXPECT_EQ(refused(table.open(region_named("a", 1_MiB, 1_MiB), 2)).status, Status::kBusy);
  first.reset();
  auto second = granted(table.open(region_named("a", 1_MiB, 1_MiB), 2));
}

TEST(RegionTable, AJoinWithAnotherSizeIsRefused) {
  RegionTable table(16_MiB);
  auto first = granted(table.open(region_named("a", 1_MiB, 1_MiB), 1));
  Refusal refusal = refused(table.open(region_named("a", 2_MiB, 1_MiB), 1));
  EXPECT_EQ(refusal.status, Status::kRefused);
  EXPECT_THAT(refusal.text, HasSubstr("1048576"));
}

TEST(RegionTable, AJoinMayRaiseTheReservationButNeverLowersIt) {
  RegionTable table(16_MiB);
  auto first = granted(table.open(region_named("a", 32_MiB, 4_MiB), 1));
  auto higher = granted(table.open(region_named("a", 32_MiB, 16_MiB), 1));
  EXPECT_EQ(first->region().limit(), 16_MiB / kPageBytes);
  auto lower = granted(table.open(region_named("a", 32_MiB, 1_MiB), 1));
  EXPECT_EQ(table.usage().reserved_bytes, 16_MiB);
  EXPECT_EQ(refused(table.open(region_named("a", 32_MiB, 17_MiB), 1)).status, Status::kFull);
  EXPECT_EQ(table.usage().reserved_bytes, 16_MiB);
}

TEST(RegionTable, EndedRegionsAreBuriedOutsideTheTable) {
  std::vector<std::unique_ptr<Region>> buried;
  RegionTable table(16_MiB, {.bury = [&](std::unique_ptr<Region> region) { buried.push_back(std::move(region)); }});
  granted(table.open(region_named("a", 1_MiB, 1_MiB), 1));
  ASSERT_EQ(buried.size(), 1u);
  EXPECT_EQ(table.usage().free_bytes(), 16_MiB);
}

TEST(RegionTable, AddressSpaceThatIsNotThereIsARefusal) {
  RegionTable table(16_MiB);
  std::vector<Attachment> held;
  for (int i = 0; i < 64; ++i) {  // 16 TiB each: more than any address space
    auto outcome = table.open(region_named("a" + std::to_string(i), wire::kMaxRegionBytes, 0), 1);
    if (auto* refusal = std::get_if<Refusal>(&outcome)) {
      EXPECT_EQ(refusal->status, Status::kResources);
      return;
    }
    held.push_back(std::move(std::get<Attachment>(outcome)));
  }
  FAIL() << "1024 TiB were given";
}

// A table whose clock the test moves.
struct GraceTest : testing::Test {
  static constexpr int64_t kGrace = 30'000'000'000;
  int64_t now_ns = 1;
  std::vector<int64_t> woken_at;
  RegionTable table{16_MiB,
                    {.grace_ns = kGrace,
                     .now_ns = [this] { return now_ns; },
                     .wake_at = [this](int64_t at_ns) { woken_at.push_back(at_ns); }}};
  void lose(const wire::OpenRegion& region, uint64_t client) { granted(table.open(region, client)); }
};

TEST_F(GraceTest, ARegionThatLostItsConnectionsIsKeptForTheGraceAndThenFreed) {
  lose(region_named("a", 8_MiB, 4_MiB), 1);
  ASSERT_EQ(woken_at.size(), 1u);
  now_ns = woken_at[0] - 1;
  table.end_lingering();
  EXPECT_EQ(table.usage().regions, 1u);
  EXPECT_EQ(table.usage().reserved_bytes, 4_MiB);
  EXPECT_EQ(table.usage().lingering_bytes, 4_MiB);
  EXPECT_EQ(table.usage().lingering_ms, 1u);
  ++now_ns;
  table.end_lingering();
  EXPECT_EQ(table.usage().regions, 0u);
  EXPECT_EQ(table.usage().reserved_bytes, 0u);
}

TEST_F(GraceTest, TheSameClientFindsItsPagesAgain) {
  const auto named = region_named("a", 8_MiB, 4_MiB);
  Region* before = &granted(table.open(named, 1))->region();
  now_ns += kGrace - 1;
  auto again = granted(table.open(named, 1));
  EXPECT_EQ(&again->region(), before);
  EXPECT_EQ(table.usage().lingering_regions, 0u);
  EXPECT_EQ(table.usage().reserved_bytes, 4_MiB);
  now_ns += 2 * kGrace;
  table.end_lingering();
  EXPECT_EQ(table.usage().regions, 1u);  // it is in use
}

TEST_F(GraceTest, ARegionThatWasClosedIsFreedWithItsLastConnection) {
  auto first = granted(table.open(region_named("a", 8_MiB, 4_MiB), 1));
  auto second = granted(table.open(region_named("a", 8_MiB, 4_MiB), 1));
  first->close();
  first.reset();
  EXPECT_EQ(table.usage().regions, 1u);
  second.reset();
  EXPECT_EQ(table.usage().regions, 0u);
  EXPECT_TRUE(woken_at.empty());
}

TEST_F(GraceTest, OneThatIsOpenedAfterItWasClosedLingersAgain) {
  auto first = granted(table.open(region_named("a", 8_MiB, 4_MiB), 1));
  first->close();
  lose(region_named("a", 8_MiB, 4_MiB), 1);
  first.reset();
  EXPECT_EQ(table.usage().lingering_regions, 1u);
}

TEST_F(GraceTest, ALingeringRegionLeavesItsNameToAnotherVmAndBothExist) {
  lose(region_named("a", 8_MiB, 4_MiB, 1), 1);
  auto other = granted(table.open(region_named("a", 8_MiB, 4_MiB, 2), 2));
  EXPECT_EQ(table.usage().regions, 2u);
  EXPECT_EQ(table.usage().reserved_bytes, 8_MiB);
  EXPECT_EQ(refused(table.open(region_named("a", 8_MiB, 1_MiB, 3), 3)).status, Status::kRefused);
  auto back = granted(table.open(region_named("a", 8_MiB, 4_MiB, 1), 1));
  EXPECT_NE(&back->region(), &other->region());
  other.reset();
  EXPECT_EQ(table.usage().lingering_regions, 1u);
  back->close();
  back.reset();
  EXPECT_EQ(table.usage().regions, 1u);
}

TEST_F(GraceTest, WhatItReservedStaysReservedAndTheRefusalSaysForHowLong) {
  lose(region_named("a", 16_MiB, 10_MiB, 1), 1);
  now_ns += kGrace / 3;
  Refusal full = refused(table.open(region_named("b", 16_MiB, 10_MiB), 2));
  EXPECT_EQ(full.status, Status::kFull);
  EXPECT_THAT(full.text, HasSubstr("10 MiB are held for up to 20 s more"));
  now_ns += kGrace;
  auto fits = granted(table.open(region_named("b", 16_MiB, 10_MiB), 2));  // ends those whose grace is over by itself
}

TEST_F(GraceTest, AnotherProcessOfTheVmMustWait) {
  lose(region_named("a", 8_MiB, 4_MiB), 1);
  Refusal refusal = refused(table.open(region_named("a", 8_MiB, 4_MiB), 2));
  EXPECT_EQ(refusal.status, Status::kBusy);
  EXPECT_THAT(refusal.text, HasSubstr("30 s more"));
}

TEST_F(GraceTest, WhatCanHoldNothingDoesNotLinger) {
  lose(region_named("a", 8_MiB, 0), 1);
  EXPECT_EQ(table.usage().regions, 0u);
}

TEST_F(GraceTest, TheTableAsksToBeWokenForEachThatIsLeft) {
  lose(region_named("a", 8_MiB, 1_MiB), 1);
  now_ns += 5;
  lose(region_named("b", 8_MiB, 1_MiB), 1);
  now_ns = 1 + kGrace;
  table.end_lingering();
  EXPECT_EQ(table.usage().regions, 1u);
  EXPECT_EQ(woken_at.back(), 6 + kGrace);
  table.end_all_lingering();
  EXPECT_EQ(table.usage().regions, 0u);
}

TEST(RegionTable, AReservationIsSetUpAndDownButNeverBelowWhatIsHeld) {
  RegionTable table(16_MiB);
  auto held = granted(table.open(region_named("a", 32_MiB, 8_MiB), 1));
  const auto bytes = content_of(PageNumber(3), 1);
  const PageWrite write{{PageNumber(3), wire::page_checksum(bytes, PageNumber(3), 1), 1, wire::PageState::kPresent},
                        bytes.data()};
  ASSERT_EQ(held->region().store(std::span(&write, 1)), Stored::kAll);
  EXPECT_EQ(std::get<uint64_t>(held->reserve(2_MiB)), 2_MiB);
  EXPECT_EQ(table.usage().free_bytes(), 14_MiB);
  EXPECT_EQ(std::get<uint64_t>(held->reserve(0)), kPageBytes);
  EXPECT_EQ(table.usage().reserved_bytes, kPageBytes);
  EXPECT_EQ(std::get<uint64_t>(held->reserve(16_MiB)), 16_MiB);
  Refusal full = std::get<Refusal>(held->reserve(17_MiB));
  EXPECT_EQ(full.status, Status::kFull);
  EXPECT_THAT(full.text, HasSubstr("needs 1 MiB"));
  EXPECT_EQ(table.usage().reserved_bytes, 16_MiB);
  EXPECT_EQ(std::get<uint64_t>(held->reserve(1)), kPageBytes);  // whole pages
  EXPECT_EQ(std::get<Refusal>(held->reserve(UINT64_MAX)).status, Status::kFull);
  held.reset();
  EXPECT_EQ(table.usage().reserved_bytes, 0u);
}

wire::OpenRegion of_epoch(uint64_t epoch) {
  wire::OpenRegion open = region_named("vm", 8_MiB, 8_MiB);
  open.epoch = epoch;
  return open;
}

bool may_change(const std::variant<std::shared_lock<std::shared_mutex>, Refusal>& changing) {
  return changing.index() == 0;
}

constexpr int64_t kHourNs = 3'600'000'000'000;

TEST(RegionTable, ALaterPagerFencesTheEarlierOnesOff) {
  RegionTable table(16_MiB);
  auto first = granted(table.open(of_epoch(1), 1));
  EXPECT_TRUE(may_change(first->begin_change()));
  auto second = granted(table.open(of_epoch(2), 1));
  EXPECT_FALSE(may_change(first->begin_change())) << "it may still have writes under way";
  EXPECT_TRUE(may_change(second->begin_change()));
  EXPECT_TRUE(may_change(granted(table.open(of_epoch(2), 1))->begin_change()))
      << "another connection of the same pager";
}

TEST(RegionTable, AnEarlierPagerIsRefused) {
  RegionTable table(16_MiB);
  auto second = granted(table.open(of_epoch(2), 1));
  Refusal refusal = refused(table.open(of_epoch(1), 1));
  EXPECT_EQ(refusal.status, Status::kBusy);
  EXPECT_THAT(refusal.text, HasSubstr("later pager"));
}

TEST(RegionTable, AFenceWaitsForTheChangeThatIsUnderWay) {
  RegionTable table(16_MiB);
  auto first = granted(table.open(of_epoch(1), 1));
  auto changing = std::make_optional(first->begin_change());
  std::atomic<bool> changed{false};
  std::thread opener([&] {
    auto second = granted(table.open(of_epoch(2), 1));
    EXPECT_TRUE(changed.load());
  });
  changed.store(true);
  changing.reset();
  opener.join();
}

TEST(RegionTable, ALaterWriterFencesTheEarlierOneOff) {
  RegionTable table(16_MiB);
  auto first = granted(table.open(of_epoch(1), 1));
  auto second = granted(table.open(of_epoch(1), 1));
  auto other = granted(table.open(of_epoch(1), 1));
  first->become_writer();
  EXPECT_TRUE(may_change(first->begin_change()));
  second->become_writer();
  EXPECT_FALSE(may_change(first->begin_change())) << "it was cut off, and what it sent may come late";
  EXPECT_TRUE(may_change(second->begin_change()));
  EXPECT_TRUE(may_change(other->begin_change())) << "no writer: discards of faults";
}

TEST(RegionTable, APagerThatWasReplacedCannotCloseTheRegion) {
  RegionTable table(16_MiB, {.grace_ns = kHourNs});
  {
    auto first = granted(table.open(of_epoch(1), 1));
    auto second = granted(table.open(of_epoch(2), 1));
    first->close();
  }
  EXPECT_EQ(table.usage().regions, 1u);
  granted(table.open(of_epoch(3), 1))->close();
  EXPECT_EQ(table.usage().regions, 0u);
}

}  // namespace
}  // namespace hecaton::donor
