#include "coherence/hold.h"

#include <gtest/gtest.h>

namespace hecaton::coherence {
namespace {

constexpr ProcessorNumber kOne(0), kTwo(1);
constexpr PageNumber kLow(3), kMiddle(5), kHigh(9);

TEST(Hold, APageThatCameIsKeptForTheTimeOfAnInstruction) {
  Hold hold(1, 100);
  hold.fault(kOne, kLow, true, 1000);
  hold.came(kLow, 2000);
  EXPECT_EQ(hold.kept_until(kLow, 2000), 2100);
  EXPECT_EQ(hold.kept_until(kLow, 2099), 2100);
  EXPECT_EQ(hold.kept_until(kLow, 2100), 2100);
}

TEST(Hold, APageThatNobodyFaultedOnIsNotKept) {
  Hold hold(1, 100);
  hold.fault(kOne, kLow, true, 1000);
  hold.came(kLow, 2000);
  EXPECT_EQ(hold.kept_until(kHigh, 2000), 2000);
}

TEST(Hold, WhoWaitsForAPageGivesWhatItGathered) {
  Hold hold(1, 100);
  hold.fault(kOne, kLow, true, 1000);
  hold.came(kLow, 2000);
  hold.fault(kOne, kHigh, true, 2010);
  EXPECT_EQ(hold.kept_until(kLow, 2010), 2010);
}

TEST(Hold, TheLastPageThatComesKeepsAllThatWereGathered) {
  Hold hold(1, 100);
  hold.fault(kOne, kLow, true, 1000);
  hold.came(kLow, 2000);
  hold.fault(kOne, kHigh, true, 2010);
  hold.came(kHigh, 5000);
  EXPECT_EQ(hold.kept_until(kLow, 5000), 5100);
  EXPECT_EQ(hold.kept_until(kHigh, 5000), 5100);
}

// Gathers low, middle and high, and loses all of them while it waits for `awaited`.
Hold struggling(PageNumber awaited) {
  Hold hold(2, 100);
  int64_t now = 1000;
  for (PageNumber page : {kLow, kMiddle, kHigh}) {
    hold.fault(kOne, page, true, now);
    hold.came(page, now + 10);
    now += 20;
  }
  hold.fault(kOne, awaited, true, now);
  return hold;
}

TEST(Hold, WhoMustAskAgainForWhatItGatheredKeepsLowerPagesUntilThatCame) {
  Hold hold = struggling(kMiddle);
  EXPECT_EQ(hold.kept_until(kLow, 2000), Hold::kUntilItCame);
  EXPECT_EQ(hold.kept_until(kMiddle, 2000), 2000);
  EXPECT_EQ(hold.kept_until(kHigh, 2000), 2000);
  hold.came(kMiddle, 3000);
  EXPECT_EQ(hold.kept_until(kLow, 3000), 3100);
}

TEST(Hold, TheRightToWriteIsNoPageThatWasLost) {
  Hold hold(1, 100);
  hold.fault(kOne, kLow, true, 1000);
  hold.came(kLow, 1010);
  hold.fault(kOne, kHigh, true, 1020);
  hold.came(kHigh, 1030);
  hold.fault(kOne, kHigh, false, 1040);  // it is here to be read
  EXPECT_EQ(hold.kept_until(kLow, 1050), 1050);
}

TEST(Hold, AfterTheTimeOfAnInstructionWithoutAFaultAllBeginsAnew) {
  Hold hold = struggling(kHigh);
  hold.came(kHigh, 2000);
  hold.fault(kOne, kHigh, true, 2100);
  EXPECT_EQ(hold.kept_until(kLow, 2100), 2100);
  hold.came(kHigh, 2200);
  EXPECT_EQ(hold.kept_until(kLow, 2200), 2200);
  EXPECT_EQ(hold.kept_until(kHigh, 2200), 2300);
}

TEST(Hold, WhatOneProcessorKeepsAnotherDoesNotGive) {
  Hold hold(2, 100);
  hold.fault(kOne, kLow, true, 1000);
  hold.came(kLow, 1010);
  hold.fault(kTwo, kLow, true, 1050);
  hold.came(kLow, 1060);
  hold.fault(kOne, kHigh, true, 1070);
  EXPECT_EQ(hold.kept_until(kLow, 1100), 1160);
}

TEST(Hold, AProcessorWhosePageIsLostKeepsNothing) {
  Hold hold = struggling(kHigh);
  EXPECT_EQ(hold.kept_until(kLow, 2000), Hold::kUntilItCame);
  hold.failed(kHigh);
  EXPECT_EQ(hold.kept_until(kLow, 2000), 2000);
}

TEST(Hold, OfMoreThanAnInstructionCanNeedTheOldestAreForgotten) {
  Hold hold(1, 100);
  for (uint64_t i = 0; i <= Hold::kMostGathered; ++i) {
    hold.fault(kOne, PageNumber(100 + i), true, 1000);
    hold.came(PageNumber(100 + i), 1000);
  }
  EXPECT_EQ(hold.kept_until(PageNumber(100), 1000), 1000);
  EXPECT_EQ(hold.kept_until(PageNumber(101), 1000), 1100);
  EXPECT_EQ(hold.kept_until(PageNumber(100 + Hold::kMostGathered), 1000), 1100);
}

}  // namespace
}  // namespace hecaton::coherence
