#include "store/silence_watch.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

constexpr int64_t kLook = int64_t{SilenceWatch::kCheckMs} * 1'000'000;

struct Found {
  std::vector<size_t> silent, dead;
};
Found check(SilenceWatch& watch, int64_t now) {
  Found found;
  watch.check(
      now, [&](size_t donor) { found.silent.push_back(donor); }, [&](size_t donor) { found.dead.push_back(donor); });
  return found;
}

TEST(SilenceWatch, FindsADonorThatOwesAnAnswerForTooLong) {
  SilenceWatch watch(3);
  watch.asked(1, 100);
  EXPECT_TRUE(check(watch, SilenceWatch::kSilentNs).silent.empty());
  EXPECT_EQ(check(watch, 2'000'000'000).silent, std::vector<size_t>{1});
  EXPECT_TRUE(check(watch, 4'000'000'000).silent.empty()) << "once for each silence";
  EXPECT_EQ(check(watch, SilenceWatch::kPatienceNs + 101).dead, std::vector<size_t>{1});
}

TEST(SilenceWatch, IsSoonImpatientWithADonorThatIsUsuallyQuick) {
  SilenceWatch watch(1);
  int64_t now = 0;
  for (int i = 0; i < 100; ++i) {
    watch.asked(0, now);
    EXPECT_TRUE(watch.answered(0, now += 10'000));
  }
  watch.asked(0, now);
  EXPECT_TRUE(check(watch, now + SilenceWatch::kSilentNs).silent.empty());
  EXPECT_EQ(check(watch, now + SilenceWatch::kSilentNs + kLook + 1).silent, std::vector<size_t>{0});
}

// After a reconnection, or in a new pager, every donor is one.
TEST(SilenceWatch, IsNoMorePatientWithADonorThatItDoesNotKnowYet) {
  SilenceWatch watch(1);
  watch.asked(0, 0);
  EXPECT_TRUE(check(watch, SilenceWatch::kSilentNs - kLook).silent.empty());
  EXPECT_EQ(check(watch, SilenceWatch::kSilentNs + 1).silent, std::vector<size_t>{0});
}

TEST(SilenceWatch, CountsFromTheLastAnswer) {
  SilenceWatch watch(1);
  watch.asked(0, 0);
  watch.asked(0, 0);
  EXPECT_TRUE(watch.answered(0, SilenceWatch::kPatienceNs));
  EXPECT_TRUE(check(watch, SilenceWatch::kPatienceNs + 1000).dead.empty());
  EXPECT_EQ(check(watch, 3 * SilenceWatch::kPatienceNs).silent, std::vector<size_t>{0});
  EXPECT_EQ(check(watch, 3 * SilenceWatch::kPatienceNs + kLook).dead, std::vector<size_t>{0})
      << "not at the look that finds it silent: a pager that was itself stopped may have answers to read";
}

TEST(SilenceWatch, IsPatientWithADonorThatOwesNothing) {
  SilenceWatch watch(2);
  watch.asked(0, 0);
  EXPECT_TRUE(watch.answered(0, 1));
  EXPECT_FALSE(watch.answered(0, 2));
  EXPECT_FALSE(watch.any_owed());
  EXPECT_TRUE(check(watch, 100 * SilenceWatch::kPatienceNs).dead.empty());
  watch.asked(1, 0);
  watch.forget(1);
  EXPECT_FALSE(watch.any_owed());
  EXPECT_TRUE(check(watch, 200 * SilenceWatch::kPatienceNs).dead.empty());
}

TEST(SilenceWatch, GrowsWithThePool) {
  SilenceWatch watch(1);
  watch.grow(2);
  watch.asked(1, 0);
  EXPECT_EQ(check(watch, 2 * SilenceWatch::kPatienceNs).silent, std::vector<size_t>{1});
}

}  // namespace
}  // namespace hecaton
