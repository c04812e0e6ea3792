#include "base/yield_spin.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

constexpr int64_t kQuick = YieldSpin::kSlowNs / 100, kSlow = YieldSpin::kSlowNs;

// The time at which it may yield again, looked for from `now` on.
int64_t next_time(const YieldSpin& spin, int64_t now) {
  while (!spin.may(now)) now += YieldSpin::kShortestPauseNs / 4;
  return now;
}

TEST(YieldSpin, GoesOnWhileYieldsAreQuick) {
  YieldSpin spin;
  for (int64_t now = 1; now < 1000; ++now) {
    EXPECT_TRUE(spin.may(now));
    spin.yielded(kQuick, now);
  }
}

TEST(YieldSpin, PausesAfterASlowOneAndTwiceAsLongAfterTheNext) {
  YieldSpin spin;
  spin.yielded(kSlow, 1);
  EXPECT_FALSE(spin.may(1));
  const int64_t second = next_time(spin, 1);
  EXPECT_EQ(second - 1, YieldSpin::kShortestPauseNs);
  spin.yielded(kSlow, second);
  EXPECT_EQ(next_time(spin, second) - second, 2 * YieldSpin::kShortestPauseNs);
}

TEST(YieldSpin, NeverPausesForEver) {
  YieldSpin spin;
  int64_t now = 1;
  for (int i = 0; i < 30; ++i) {
    spin.yielded(kSlow, now);
    now = next_time(spin, now);
  }
  spin.yielded(kSlow, now);
  EXPECT_EQ(next_time(spin, now) - now, YieldSpin::kLongestPauseNs);
}

TEST(YieldSpin, ForgetsSlowOnesAfterALongRowOfQuickOnes) {
  YieldSpin spin;
  spin.yielded(kSlow, 1);
  int64_t now = next_time(spin, 1);
  for (uint32_t i = 0; i < YieldSpin::kManyQuick; ++i) spin.yielded(kQuick, ++now);
  spin.yielded(kSlow, now);
  EXPECT_EQ(next_time(spin, now) - now, YieldSpin::kShortestPauseNs);
}

}  // namespace
}  // namespace hecaton
