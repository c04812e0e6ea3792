#include "node/processor_table.h"

#include <gtest/gtest.h>

namespace hecaton::node {
namespace {

TEST(ProcessorTable, AThreadKeepsItsNumber) {
  ProcessorTable table(2);
  const ProcessorNumber first = table.number_of(100), second = table.number_of(200);
  EXPECT_NE(first, second);
  EXPECT_EQ(table.number_of(100), first);
  EXPECT_EQ(table.number_of(200), second);
}

TEST(ProcessorTable, WhoeverFaultedLongestAgoGivesItsNumberUp) {
  ProcessorTable table(2);
  const ProcessorNumber first = table.number_of(100), second = table.number_of(200);
  (void)table.number_of(100);
  EXPECT_EQ(table.number_of(300), second);
  EXPECT_EQ(table.number_of(100), first);
}

TEST(ProcessorTable, ARepeatedFaultIsOneWait) {
  ProcessorTable table(1);
  table.waits(table.number_of(100), PageNumber(7), 10);
  table.waits(table.number_of(100), PageNumber(7), 20);
  EXPECT_TRUE(table.any_waits());
  EXPECT_EQ(table.came(PageNumber(8), 25), 0);
  EXPECT_EQ(table.came(PageNumber(7), 30), 20);
  EXPECT_FALSE(table.any_waits());
}

}  // namespace
}  // namespace hecaton::node
