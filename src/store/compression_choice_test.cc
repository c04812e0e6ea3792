#include "store/compression_choice.h"

#include <gtest/gtest.h>

#include "base/units.h"

namespace hecaton {
namespace {

// A pool and what its guest's pages are like.
struct Pool {
  double bits_per_second = 1e9;
  double shrink_to = 0.3;
  int64_t latency_ns = 50'000;
};

int64_t busy_ns(const Pool& pool, bool packed, uint64_t pages) {
  const double bytes = static_cast<double>(pages * kPageBytes) * (packed ? pool.shrink_to : 1);
  return pool.latency_ns + static_cast<int64_t>(bytes * 8e9 / pool.bits_per_second);
}

// So many writes of 64 pages; those that were packed.
uint64_t write(CompressionChoice& choice, const Pool& pool, uint64_t writes = 2000) {
  constexpr uint64_t kPages = 64;
  uint64_t packed_writes = 0;
  for (uint64_t i = 0; i < writes; ++i) {
    const bool packed = choice.packs(true);
    packed_writes += packed;
    if (packed) choice.worked(3400, 900);
    choice.acknowledged(packed, kPages, busy_ns(pool, packed, kPages));
  }
  return packed_writes;
}

TEST(CompressionChoice, TurnsOnWhereTheLinkIsSlowAndPagesShrink) {
  CompressionChoice choice(Compression::kAuto);
  EXPECT_FALSE(choice.on());
  write(choice, {.bits_per_second = 1e9});
  EXPECT_TRUE(choice.on());
}

TEST(CompressionChoice, StaysOffWhereTheLinkIsFasterThanTheProcessor) {
  CompressionChoice choice(Compression::kAuto);
  write(choice, {.bits_per_second = 25e9});
  EXPECT_FALSE(choice.on());
}

TEST(CompressionChoice, StaysOffWherePagesDoNotShrink) {
  CompressionChoice choice(Compression::kAuto);
  write(choice, {.shrink_to = 0.95});
  EXPECT_FALSE(choice.on());
}

// 64 pages in 1.1 ms look like a slow link; all but 0.1 ms of it is distance.
TEST(CompressionChoice, StaysOffWhereTheLinkIsLongRatherThanSlow) {
  CompressionChoice choice(Compression::kAuto);
  write(choice, {.bits_per_second = 20e9, .latency_ns = 1'000'000});
  EXPECT_FALSE(choice.on());
}

TEST(CompressionChoice, TimesBothWaysBeforeItDecides) {
  CompressionChoice choice(Compression::kAuto);
  EXPECT_EQ(write(choice, {}, 2 * CompressionChoice::kWrites - 1), CompressionChoice::kWrites - 1);
  EXPECT_FALSE(choice.on());
  write(choice, {}, 1);
  EXPECT_TRUE(choice.on());
}

// A busy machine stalls some transfers; the link is as fast as before.
TEST(CompressionChoice, SomeSlowWritesTurnNothingOnOrOff) {
  for (const Pool& pool : {Pool{.bits_per_second = 1e9}, Pool{.bits_per_second = 25e9}}) {
    CompressionChoice choice(Compression::kAuto);
    write(choice, pool);
    const bool on = choice.on();
    for (int round = 0; round < 1000; ++round) {
      write(choice, pool, 2);
      write(choice, {.bits_per_second = 1e7}, 1);
      ASSERT_EQ(choice.on(), on) << round;
    }
  }
}

TEST(CompressionChoice, APageInWhichItsThreadWasPreemptedDoesNotTurnItOff) {
  CompressionChoice choice(Compression::kAuto);
  write(choice, {});
  choice.worked(10'000'000, 10'000'000);
  write(choice, {}, 1);
  EXPECT_TRUE(choice.on());
}

TEST(CompressionChoice, FollowsTheGuestAndTheLinkAsTheyChange) {
  CompressionChoice choice(Compression::kAuto);
  write(choice, {});
  ASSERT_TRUE(choice.on());
  write(choice, {.shrink_to = 1});
  EXPECT_FALSE(choice.on());
  write(choice, {});
  EXPECT_TRUE(choice.on());
  write(choice, {.bits_per_second = 25e9});
  EXPECT_FALSE(choice.on());
}

// 4.3 us of work a page, and 0.3 of its transfer: 0.8 of the whole transfer at 3.8 Gbit/s, 0.95 of it at 5.
TEST(CompressionChoice, NearTheLimitItStaysAsItIs) {
  CompressionChoice choice(Compression::kAuto);
  const Pool near{.bits_per_second = 4.4e9, .latency_ns = 0};
  write(choice, near);
  EXPECT_FALSE(choice.on());
  write(choice, {.bits_per_second = 3e9, .latency_ns = 0});
  EXPECT_TRUE(choice.on());
  write(choice, near);
  EXPECT_TRUE(choice.on());
  write(choice, {.bits_per_second = 6e9, .latency_ns = 0});
  EXPECT_FALSE(choice.on());
}

TEST(CompressionChoice, OneTimedWriteInSixteenGoesTheOtherWayAndNoSmallOneDoes) {
  for (double bits_per_second : {1e9, 25e9}) {
    CompressionChoice choice(Compression::kAuto);
    write(choice, {.bits_per_second = bits_per_second});
    const uint64_t packed = write(choice, {.bits_per_second = bits_per_second}, 160);
    EXPECT_EQ(packed, choice.on() ? 150u : 10u);
    for (int n = 0; n < 100; ++n) EXPECT_EQ(choice.packs(false), choice.on());
  }
}

TEST(CompressionChoice, WhatIsSaidOutrightIsNotMeasured) {
  for (Compression wanted : {Compression::kOff, Compression::kOn}) {
    CompressionChoice choice(wanted);
    EXPECT_FALSE(choice.measures());
    const uint64_t packed = write(choice, {.bits_per_second = wanted == Compression::kOn ? 100e9 : 1e8}, 200);
    EXPECT_EQ(packed, wanted == Compression::kOn ? 200u : 0u);
    EXPECT_EQ(choice.on(), wanted == Compression::kOn);
  }
}

}  // namespace
}  // namespace hecaton
