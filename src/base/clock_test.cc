#include "base/clock.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

TEST(Deadline, ThatNeverComesOrIsFarAwayLeavesAsLongAsPollCanWait) {
  EXPECT_EQ(Deadline::never().remaining_ms(), INT_MAX);
  EXPECT_EQ(Deadline::after_ms(int64_t{1} << 32).remaining_ms(), INT_MAX);
}

TEST(Deadline, ThatHasPassedLeavesNothing) {
  EXPECT_EQ(Deadline::after_ms(-5).remaining_ms(), 0);
  EXPECT_TRUE(Deadline::after_ms(0).passed());
}

}  // namespace
}  // namespace hecaton
