#include "coherence/home_map.h"

#include <gtest/gtest.h>

namespace hecaton::coherence {
namespace {

TEST(HomeMap, EachPageHasTheNodeWhoseRangeHoldsIt) {
  const uint64_t pages[] = {3, 0, 2};
  HomeMap homes(pages);
  EXPECT_EQ(homes.pages(), 5u);
  EXPECT_EQ(homes.home_of(PageNumber(0)), NodeId(0));
  EXPECT_EQ(homes.home_of(PageNumber(2)), NodeId(0));
  EXPECT_EQ(homes.home_of(PageNumber(3)), NodeId(2));
  EXPECT_EQ(homes.home_of(PageNumber(4)), NodeId(2));
  EXPECT_FALSE(homes.has(PageNumber(5)));
}

TEST(HomeMap, ANodesRangeMayBeEmpty) {
  const uint64_t pages[] = {3, 0, 2};
  HomeMap homes(pages);
  EXPECT_EQ(homes.range_of(NodeId(0)), (PageRun{PageNumber(0), 3}));
  EXPECT_EQ(homes.range_of(NodeId(1)).count, 0u);
  EXPECT_EQ(homes.range_of(NodeId(2)), (PageRun{PageNumber(3), 2}));
}

}  // namespace
}  // namespace hecaton::coherence
