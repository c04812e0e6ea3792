#include "bench/limits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "os/scheduling.h"

namespace hecaton::bench {
namespace {

TEST(Quantiles, AreThoseOfTheSamplesInAnyOrder) {
  std::vector<int64_t> samples;
  for (int64_t i = 0; i <= 1000; ++i) samples.push_back(i * 1000);
  std::shuffle(samples.begin(), samples.end(), std::mt19937_64(7));
  const Quantiles quantiles = quantiles_of(samples);
  EXPECT_DOUBLE_EQ(quantiles.p50_us, 500);
  EXPECT_DOUBLE_EQ(quantiles.p90_us, 900);
  EXPECT_DOUBLE_EQ(quantiles.p99_us, 990);
  ASSERT_EQ(quantiles.percentiles_us.size(), 100u);
  EXPECT_DOUBLE_EQ(quantiles.percentiles_us[0], 0);
  EXPECT_DOUBLE_EQ(quantiles.percentiles_us[25], 250);
}

TEST(Quantiles, OfOneSampleAreThatSample) {
  std::vector<int64_t> samples{2500};
  const Quantiles quantiles = quantiles_of(samples);
  EXPECT_DOUBLE_EQ(quantiles.p50_us, 2.5);
  EXPECT_DOUBLE_EQ(quantiles.p99_us, 2.5);
}

TEST(Quantiles, OfNoSamplesAreZero) {
  std::vector<int64_t> none;
  EXPECT_DOUBLE_EQ(quantiles_of(none).p99_us, 0);
}

TEST(Median, IsTheMiddleAndNotMovedByAnOutlier) {
  EXPECT_DOUBLE_EQ(median({5, 1, 1000, 3, 2}), 3);
  EXPECT_DOUBLE_EQ(median({4, 1, 3, 2}), 2.5);
  EXPECT_DOUBLE_EQ(median(std::vector<double>{}), 0);
}

TEST(Median, OfQuantilesIsTakenForEachOfThem) {
  const Quantiles middle = median({{1, 20, 300, {1}}, {3, 10, 200, {5}}, {2, 30, 100, {9}}});
  EXPECT_DOUBLE_EQ(middle.p50_us, 2);
  EXPECT_DOUBLE_EQ(middle.p90_us, 20);
  EXPECT_DOUBLE_EQ(middle.p99_us, 200);
  EXPECT_EQ(middle.percentiles_us, std::vector<double>{5});
}

TEST(Limits, OnOneProcessorTheEndsOfAnExchangeShareItAndItIsSaid) {
  ASSERT_TRUE(run_only_on(usable_processors().front()));
  const std::string said = how_both_ends_wait();
  Result<Quantiles> exchange = measure_raw_exchange(16, 16, 10);
  run_anywhere();
  EXPECT_NE(said.find("the only processor"), std::string::npos) << said;
  ASSERT_TRUE(exchange.ok()) << exchange.error().describe();
  EXPECT_GT(exchange->p50_us, 0);
}

TEST(Limits, ARawStreamMovesAllOfItsBytes) {
  Result<double> gbps = measure_raw_stream(64 << 10, 8 << 20);
  ASSERT_TRUE(gbps.ok()) << gbps.error().describe();
  EXPECT_GT(*gbps, 0);
}

}  // namespace
}  // namespace hecaton::bench
