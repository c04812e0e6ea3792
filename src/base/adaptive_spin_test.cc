#include "base/adaptive_spin.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

constexpr int64_t kLongest = 1000;

// Work comes `gap` after the thread ran out of it, `times` times. The time afterwards.
int64_t feed(AdaptiveSpin& spin, int64_t now, int64_t gap, int times) {
  for (int i = 0; i < times; ++i) {
    spin.idle(now);
    now += gap;
    spin.busy(now);
  }
  return now;
}

TEST(AdaptiveSpin, SleepsAtOnceAsLongAsWorkIsRare) {
  AdaptiveSpin spin(kLongest);
  EXPECT_FALSE(spin.idle(1));
  int64_t now = feed(spin, 1, 50 * kLongest, 20);
  EXPECT_FALSE(spin.idle(now));
}

TEST(AdaptiveSpin, SpinsOnceWorkComesInABurst) {
  AdaptiveSpin spin(kLongest);
  int64_t now = feed(spin, 1, kLongest / 4, 20);
  EXPECT_TRUE(spin.idle(now));
  EXPECT_TRUE(spin.idle(now + kLongest - 1));
}

TEST(AdaptiveSpin, GivesUpASpinThatFoundNothing) {
  AdaptiveSpin spin(kLongest);
  int64_t now = feed(spin, 1, kLongest / 4, 20);
  EXPECT_TRUE(spin.idle(now));
  EXPECT_FALSE(spin.idle(now + kLongest));
}

TEST(AdaptiveSpin, UnlearnsABurstAfterAFewLongGaps) {
  AdaptiveSpin spin(kLongest);
  int64_t now = feed(spin, 1, kLongest / 4, 100);
  now = feed(spin, now, 100 * kLongest, 4);
  EXPECT_FALSE(spin.idle(now));
}

TEST(AdaptiveSpin, OneLongGapDoesNotEndIt) {
  AdaptiveSpin spin(kLongest);
  int64_t now = feed(spin, 1, kLongest / 4, 100);
  now = feed(spin, now, 100 * kLongest, 1);
  EXPECT_TRUE(spin.idle(now));
}

}  // namespace
}  // namespace hecaton
