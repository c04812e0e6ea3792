#include "bench/link_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace hecaton::bench {
namespace {

class LinkGraphTest : public testing::Test {
 protected:
  static constexpr uint64_t kBytes = 1 << 20;
  void SetUp() override { graph_.generate(memory_.data()); }
  std::vector<double> ranked(unsigned rounds) {
    graph_.rank(memory_.data(), rounds);
    auto ranks = graph_.ranks(memory_.data());
    return {ranks.begin(), ranks.end()};
  }
  LinkGraph graph_{kBytes};
  std::vector<std::byte> memory_ = std::vector<std::byte>(kBytes);
};

TEST_F(LinkGraphTest, FillsItsMemoryWithLinks) {
  EXPECT_EQ(graph_.nodes(), kBytes / 128);
  EXPECT_GT(graph_.links(), 20 * graph_.nodes());
}

TEST_F(LinkGraphTest, RanksAddUpToOne) {
  const std::vector<double> ranks = ranked(10);
  EXPECT_NEAR(std::accumulate(ranks.begin(), ranks.end(), 0.0), 1, 1e-9);
}

TEST_F(LinkGraphTest, RanksSettle) {
  const std::vector<double> ten = ranked(10), more = ranked(11);
  double change = 0, first_change = 0;
  const std::vector<double> one = ranked(1), two = ranked(2);
  for (size_t i = 0; i < ten.size(); ++i) {
    change += std::abs(more[i] - ten[i]);
    first_change += std::abs(two[i] - one[i]);
  }
  EXPECT_GT(first_change, 0);
  EXPECT_LT(change, first_change / 10);
}

TEST_F(LinkGraphTest, AFewNodesHaveMuchOfTheRank) {
  std::vector<double> ranks = ranked(10);
  std::sort(ranks.begin(), ranks.end(), std::greater<>());
  const double top =
      std::accumulate(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(ranks.size() / 100), 0.0);
  EXPECT_GT(top, 0.15);  // evenly it would be 0.01
}

TEST_F(LinkGraphTest, IsTheSameEachTime) {
  std::vector<std::byte> again(kBytes);
  graph_.generate(again.data());
  graph_.rank(memory_.data(), 3);
  graph_.rank(again.data(), 3);
  EXPECT_EQ(memory_, again);
}

}  // namespace
}  // namespace hecaton::bench
