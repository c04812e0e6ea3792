#include "pager/pipe_meter.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

TEST(PipeMeter, AWriteAloneTakesFromItsSendingToItsAnswer) {
  PipeMeter meter;
  const int64_t sent = meter.at(1000);
  EXPECT_EQ(meter.answered(sent, 1300), 300);
}

TEST(PipeMeter, OverlappingWritesShareNoTime) {
  PipeMeter meter;
  const int64_t first = meter.at(1000), second = meter.at(1010);
  EXPECT_EQ(meter.answered(first, 1300), 300);
  EXPECT_EQ(meter.answered(second, 1600), 300);
}

TEST(PipeMeter, WhatItsThreadDoesByItselfIsNotThePipes) {
  PipeMeter meter;
  meter.work_begins(500);
  meter.work_ends(900);
  const int64_t sent = meter.at(1000);
  meter.work_begins(1000);
  meter.work_ends(1250);
  EXPECT_EQ(meter.answered(sent, 1300), 50);
}

}  // namespace
}  // namespace hecaton
