#include "bench/zipf_numbers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace hecaton::bench {
namespace {

constexpr uint64_t kCount = 10'000;
constexpr int kDraws = 2'000'000;

std::vector<double> shares(double skew) {
  ZipfNumbers numbers(kCount, skew);
  std::mt19937_64 random(3);
  std::vector<double> share(kCount);
  for (int i = 0; i < kDraws; ++i) share[numbers.next(random)] += 1.0 / kDraws;
  return share;
}

double exact(uint64_t number, double skew) {
  double sum = 0;
  for (uint64_t i = 1; i <= kCount; ++i) sum += std::pow(static_cast<double>(i), -skew);
  return std::pow(static_cast<double>(number + 1), -skew) / sum;
}

TEST(ZipfNumbers, GiveTheFirstNumbersTheirShares) {
  const std::vector<double> share = shares(0.99);
  for (uint64_t number : {0, 1}) EXPECT_NEAR(share[number] / exact(number, 0.99), 1, 0.02) << number;
}

// The source's formula is an approximation between the numbers: what must be right is how much the most wanted get
// together, because that decides how much memory is worth having.
TEST(ZipfNumbers, GiveTheMostWantedPartsTheirShares) {
  const std::vector<double> share = shares(0.99);
  double drawn = 0, wanted = 0;
  for (uint64_t number = 0; number < kCount; ++number) {
    drawn += share[number];
    wanted += exact(number, 0.99);
    if (number + 1 == 100 || number + 1 == 1000 || number + 1 == 5000) {
      EXPECT_NEAR(drawn, wanted, 0.02) << number;
    }
  }
  EXPECT_NEAR(drawn, 1, 1e-6);
}

TEST(ZipfNumbers, ReachTheLastNumbers) {
  const std::vector<double> share = shares(0.99);
  double last = 0;
  for (uint64_t number = kCount - 100; number < kCount; ++number) last += share[number];
  EXPECT_NEAR(last / (100 * exact(kCount - 50, 0.99)), 1, 0.15);
}

TEST(ZipfNumbers, AreSpreadMoreEvenlyWithLessSkew) {
  EXPECT_LT(shares(0.5)[0], shares(0.99)[0] / 5);
}

}  // namespace
}  // namespace hecaton::bench
