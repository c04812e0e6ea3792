#include "placement/placement_table.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

std::vector<DonorShare> shares(std::initializer_list<uint64_t> extents) {
  std::vector<DonorShare> donors;
  for (uint64_t n : extents) donors.push_back({donor_id("donor" + std::to_string(donors.size())), n});
  return donors;
}

TEST(Placement, RemembersWhereAnExtentWent) {
  PlacementTable table(100, shares({100, 100}));
  EXPECT_FALSE(table.donor_of(ExtentNumber(7)));
  size_t donor = table.place(ExtentNumber(7));
  EXPECT_EQ(table.donor_of(ExtentNumber(7)), donor);
  EXPECT_EQ(table.place(ExtentNumber(7)), donor);
  EXPECT_EQ(table.placed_at(donor), 1u);
}

TEST(Placement, DealsExtentsByWeight) {
  PlacementTable table(8000, shares({16000, 8000, 8000}));
  for (uint64_t i = 0; i < 8000; ++i) table.place(ExtentNumber(i));
  EXPECT_NEAR(static_cast<double>(table.placed_at(0)), 4000, 300);
  EXPECT_NEAR(static_cast<double>(table.placed_at(1)), 2000, 300);
}

TEST(Placement, NeverExceedsAShareAndFillsThemAll) {
  PlacementTable table(30, shares({10, 15, 5}));
  for (uint64_t i = 0; i < 30; ++i) table.place(ExtentNumber(i));
  EXPECT_EQ(table.placed_at(0), 10u);
  EXPECT_EQ(table.placed_at(1), 15u);
  EXPECT_EQ(table.placed_at(2), 5u);
}

TEST(Placement, OneMoreDonorMovesFewExtents) {
  PlacementTable before(4000, shares({4000, 4000, 4000}));
  PlacementTable after(4000, shares({4000, 4000, 4000, 4000}));
  int moved = 0;
  for (uint64_t i = 0; i < 4000; ++i) moved += before.place(ExtentNumber(i)) != after.place(ExtentNumber(i));
  EXPECT_NEAR(moved, 1000, 150);
}

TEST(Placement, SplitsInProportionAndRefusesTooLittle) {
  EXPECT_EQ(split_by_capacity(30, {40, 20}), (std::vector<uint64_t>{20, 10}));
  EXPECT_EQ(split_by_capacity(7, {3, 0, 4}), (std::vector<uint64_t>{3, 0, 4}));
  EXPECT_FALSE(split_by_capacity(8, {3, 4}));
}

}  // namespace
}  // namespace hecaton
