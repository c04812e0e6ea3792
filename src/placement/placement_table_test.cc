#include "placement/placement_table.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

constexpr size_t kMostDonors = 300;

class Placed {
 public:
  Placed(uint64_t extents, std::initializer_list<uint64_t> shares, Protection protection = Protection::kNone)
      : words_(extents), table(words_, protection, kMostDonors) {
    for (uint64_t n : shares) add(n);
  }
  size_t add(uint64_t extents, uint64_t machine = 0, bool local_disk = false) {
    return table.add_donor({donor_id("donor" + std::to_string(table.donors())), extents, machine, local_disk});
  }
  CopySet place(uint64_t extent) { return table.place(ExtentNumber(extent)); }
  CopySet copies(uint64_t extent) const { return table.copies_of(ExtentNumber(extent)); }

 private:
  std::vector<PlacementTable::Word> words_;

 public:
  PlacementTable table;
};

TEST(CopySet, TellsWhetherACopyWasCompletedSince) {
  const CopySet before = CopySet().with(4, true).with(7, false);
  EXPECT_TRUE(before.completes_more_than(CopySet()));
  EXPECT_FALSE(before.completes_more_than(before));
  EXPECT_TRUE(before.completed(7).completes_more_than(before));
  EXPECT_FALSE(before.without(4).completes_more_than(before));
  EXPECT_TRUE(CopySet().with(9, true).completes_more_than(before)) << "as many, but another one";
}

TEST(CopySet, KeepsUpToThreeCopiesApart) {
  CopySet none;
  EXPECT_TRUE(none.empty());
  const CopySet three = none.with(0, true).with(CopySet::kMostDonors - 1, false).with(7, true);
  ASSERT_EQ(three.size(), 3u);
  EXPECT_EQ(three[1].donor, CopySet::kMostDonors - 1);
  EXPECT_EQ(three.complete_copies(), 2u);
  EXPECT_TRUE(three.has(0));
  EXPECT_FALSE(three.has(1));
  EXPECT_EQ(three.completed(CopySet::kMostDonors - 1).complete_copies(), 3u);
  const CopySet two = three.without(0);
  EXPECT_EQ(two.size(), 2u);
  EXPECT_FALSE(two[0].complete);
  EXPECT_EQ(two[1].donor, 7u);
  EXPECT_EQ(two.renamed(7, 9)[1].donor, 9u);
  EXPECT_TRUE(two.renamed(7, 9)[1].complete);
  EXPECT_EQ(three.without(1), three);
}

TEST(Placement, RemembersWhereAnExtentWent) {
  Placed placed(100, {100, 100});
  EXPECT_TRUE(placed.copies(7).empty());
  const CopySet copies = placed.place(7);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_TRUE(copies[0].complete);
  EXPECT_EQ(placed.copies(7), copies);
  EXPECT_EQ(placed.place(7), copies);
  EXPECT_EQ(placed.table.placed_at(copies[0].donor), 1u);
}

TEST(Placement, DealsExtentsByWeight) {
  Placed placed(8000, {16000, 8000, 8000});
  for (uint64_t i = 0; i < 8000; ++i) placed.place(i);
  EXPECT_NEAR(static_cast<double>(placed.table.placed_at(0)), 4000, 300);
  EXPECT_NEAR(static_cast<double>(placed.table.placed_at(1)), 2000, 300);
}

TEST(Placement, NeverExceedsAShareAndFillsThemAll) {
  Placed placed(30, {10, 15, 5});
  for (uint64_t i = 0; i < 30; ++i) placed.place(i);
  EXPECT_EQ(placed.table.placed_at(0), 10u);
  EXPECT_EQ(placed.table.placed_at(1), 15u);
  EXPECT_EQ(placed.table.placed_at(2), 5u);
}

TEST(Placement, FillsThemAllOfVeryManyToo) {
  Placed placed(600, {});
  for (size_t i = 0; i < 200; ++i) placed.add(3);
  for (uint64_t i = 0; i < 600; ++i) ASSERT_EQ(placed.place(i).size(), 1u);
  for (size_t i = 0; i < 200; ++i) EXPECT_EQ(placed.table.placed_at(i), 3u);
}

TEST(Placement, OneMoreDonorMovesFewExtents) {
  Placed before(4000, {4000, 4000, 4000}), after(4000, {4000, 4000, 4000, 4000});
  int moved = 0;
  for (uint64_t i = 0; i < 4000; ++i) moved += before.place(i) != after.place(i);
  EXPECT_NEAR(moved, 1000, 150);
}

TEST(Placement, AMirrorIsAtTwoDonors) {
  Placed placed(200, {200, 200, 200}, Protection::kMirror);
  for (uint64_t i = 0; i < 200; ++i) {
    const CopySet copies = placed.place(i);
    ASSERT_EQ(copies.size(), 2u);
    EXPECT_NE(copies[0].donor, copies[1].donor);
    EXPECT_EQ(copies.complete_copies(), 2u);
  }
}

TEST(Placement, AMirrorIsOnTwoMachinesIfThereAreTwo) {
  Placed placed(100, {}, Protection::kMirror);
  const size_t a = placed.add(100, 1), b = placed.add(100, 1), c = placed.add(100, 2);
  for (uint64_t i = 0; i < 100; ++i) EXPECT_TRUE(placed.place(i).has(c));
  EXPECT_EQ(placed.table.placed_at(a) + placed.table.placed_at(b), 100u);
}

TEST(Placement, AMirrorWithoutASecondDonorGoesToTheLocalDisk) {
  Placed placed(10, {10}, Protection::kMirror);
  const size_t disk = placed.add(10, 0, true);
  EXPECT_TRUE(placed.place(0).has(disk));
  EXPECT_TRUE(placed.place(0).has(0));
}

TEST(Placement, SpillIsAtOneDonorAndOnTheLocalDisk) {
  Placed placed(100, {100, 100}, Protection::kSpill);
  const size_t disk = placed.add(100, 0, true);
  for (uint64_t i = 0; i < 100; ++i) {
    const CopySet copies = placed.place(i);
    ASSERT_EQ(copies.size(), 2u);
    EXPECT_TRUE(copies.has(disk));
  }
}

TEST(Placement, NoneNeverUsesTheLocalDiskWhileADonorHasRoom) {
  Placed placed(10, {10});
  const size_t disk = placed.add(10, 0, true);
  for (uint64_t i = 0; i < 10; ++i) EXPECT_FALSE(placed.place(i).has(disk));
}

TEST(Placement, ALostCopyIsReplacedByOneThatMustBeFilled) {
  Placed placed(1, {1, 1, 1}, Protection::kMirror);
  const CopySet before = placed.place(0);
  placed.table.set_open(before[0].donor, false);
  placed.table.drop(ExtentNumber(0), before[0].donor);
  EXPECT_TRUE(placed.table.under_protected(ExtentNumber(0)));
  const CopySet after = placed.place(0);
  ASSERT_EQ(after.size(), 2u);
  EXPECT_EQ(after[0].donor, before[1].donor);
  EXPECT_FALSE(after[1].complete);
  EXPECT_NE(after[1].donor, before[0].donor);
  placed.table.complete(ExtentNumber(0), after[1].donor);
  EXPECT_EQ(placed.copies(0).complete_copies(), 2u);
  EXPECT_EQ(placed.table.placed_at(before[0].donor), 0u);
}

TEST(Placement, AnExtentMovesAwayFromALeavingDonorAndKeepsItsCopiesMeanwhile) {
  Placed placed(1, {1, 1, 1}, Protection::kMirror);
  const CopySet before = placed.place(0);
  placed.table.set_open(before[0].donor, false);
  placed.table.set_leaving(before[0].donor, true);
  const CopySet during = placed.place(0);
  EXPECT_EQ(during.size(), 3u);
  EXPECT_EQ(during.complete_copies(), 2u);
}

TEST(Placement, WithoutRoomAnExtentStaysAsItIs) {
  Placed placed(2, {1}, Protection::kMirror);
  EXPECT_EQ(placed.place(0).size(), 1u);
  EXPECT_TRUE(placed.table.under_protected(ExtentNumber(0)));
  EXPECT_TRUE(placed.place(1).empty());
  placed.table.set_capacity(0, 2);
  EXPECT_EQ(placed.place(1).size(), 1u);
}

TEST(Placement, CountsAnewWhatWasPlacedBefore) {
  std::vector<PlacementTable::Word> words(20);
  uint64_t placed_at_0 = 0;
  for (int life = 0; life < 2; ++life) {
    PlacementTable table(words, Protection::kMirror, 3);
    for (uint64_t donor = 0; donor < 3; ++donor) table.add_donor({donor + 1, 20});
    table.recount();
    EXPECT_EQ(table.placed_at(0), placed_at_0);
    for (uint64_t extent = 0; extent < 20; ++extent) table.place(ExtentNumber(extent));
    EXPECT_EQ(table.placed_at(0) + table.placed_at(1) + table.placed_at(2), 40u);
    placed_at_0 = table.placed_at(0);
  }
}

TEST(Placement, SplitsInProportionAndRefusesTooLittle) {
  EXPECT_EQ(split_by_capacity(30, 1, {40, 20}), (std::vector<uint64_t>{18, 12}));
  EXPECT_EQ(split_by_capacity(7, 1, {3, 0, 4}), (std::vector<uint64_t>{3, 0, 4}));
  EXPECT_FALSE(split_by_capacity(8, 1, {3, 4}));
}

TEST(Placement, SplitsTwoCopiesAndGivesNoDonorBoth) {
  EXPECT_EQ(split_by_capacity(10, 2, {100, 10}), (std::vector<uint64_t>{10, 10}));
  EXPECT_EQ(split_by_capacity(10, 2, {100, 100, 100}), (std::vector<uint64_t>{7, 7, 6}));
  EXPECT_FALSE(split_by_capacity(10, 2, {100}));
  EXPECT_FALSE(split_by_capacity(10, 2, {100, 9}));
}

}  // namespace
}  // namespace hecaton
