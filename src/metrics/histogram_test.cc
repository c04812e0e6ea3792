#include "metrics/histogram.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

TEST(Histogram, QuantilesAreWithinSixPercent) {
  Histogram histogram;
  for (uint64_t i = 1; i <= 100'000; ++i) histogram.record(i);
  EXPECT_EQ(histogram.count(), 100'000u);
  EXPECT_NEAR(static_cast<double>(histogram.quantile(0.5)), 50'000, 3'200);
  EXPECT_NEAR(static_cast<double>(histogram.quantile(0.99)), 99'000, 6'300);
  EXPECT_EQ(histogram.quantile(1.0), 100'000u);
}

TEST(Histogram, TakesTheWholeRangeOfValues) {
  Histogram histogram;
  EXPECT_EQ(histogram.quantile(0.5), 0u);
  histogram.record(0);
  histogram.record(UINT64_MAX);
  EXPECT_EQ(histogram.quantile(0.0), 0u);
  EXPECT_EQ(histogram.max(), UINT64_MAX);
}

}  // namespace
}  // namespace hecaton
