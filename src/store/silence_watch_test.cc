#include "store/silence_watch.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

constexpr int64_t kLate = SilenceWatch::kPatienceNs + 1;

TEST(SilenceWatch, FindsADonorThatOwesAnAnswerForTooLong) {
  SilenceWatch watch(3);
  watch.asked(1, 100);
  EXPECT_FALSE(watch.silent(100 + SilenceWatch::kPatienceNs));
  EXPECT_EQ(watch.silent(2 * kLate), 1u);
}

TEST(SilenceWatch, CountsFromTheLastAnswer) {
  SilenceWatch watch(1);
  watch.asked(0, 0);
  watch.asked(0, 0);
  EXPECT_TRUE(watch.answered(0, 5000));
  EXPECT_FALSE(watch.silent(kLate));
  EXPECT_EQ(watch.silent(2 * kLate), 0u);
}

TEST(SilenceWatch, IsPatientWithADonorThatOwesNothing) {
  SilenceWatch watch(2);
  watch.asked(0, 0);
  EXPECT_TRUE(watch.answered(0, 1));
  EXPECT_FALSE(watch.answered(0, 2));
  EXPECT_FALSE(watch.any_owed());
  EXPECT_FALSE(watch.silent(100 * kLate));
  watch.asked(0, 200 * kLate);
  EXPECT_FALSE(watch.silent(200 * kLate + 1));
}

}  // namespace
}  // namespace hecaton
