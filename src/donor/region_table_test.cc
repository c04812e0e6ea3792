#include "donor/region_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

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
  RegionTable table(16_MiB, [&](std::unique_ptr<Region> region) { buried.push_back(std::move(region)); });
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

}  // namespace
}  // namespace hecaton::donor
