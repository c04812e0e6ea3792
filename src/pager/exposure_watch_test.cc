#include "pager/exposure_watch.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

using Tell = ExposureWatch::Tell;
constexpr int64_t kS = 1'000'000'000;

TEST(ExposureWatch, IsSilentWhileCopiesAreBeingMade) {
  ExposureWatch watch;
  for (int64_t s = 0; s < 100; ++s) EXPECT_EQ(watch.update(1000 - static_cast<uint64_t>(s), s * kS), Tell::kNothing);
  EXPECT_EQ(watch.update(0, 101 * kS), Tell::kNothing);
}

TEST(ExposureWatch, TellsOfMemoryThatGetsNoCopiesOnceAndWhenItIsOver) {
  ExposureWatch watch;
  EXPECT_EQ(watch.update(100, 0), Tell::kNothing);
  EXPECT_EQ(watch.update(150, 4 * kS), Tell::kNothing);
  EXPECT_EQ(watch.update(150, 5 * kS), Tell::kExposed);
  EXPECT_EQ(watch.update(150, 60 * kS), Tell::kNothing);
  EXPECT_EQ(watch.update(300, 61 * kS), Tell::kExposed) << "far worse";
  EXPECT_EQ(watch.update(0, 62 * kS), Tell::kProtectedAgain);
  EXPECT_EQ(watch.update(0, 63 * kS), Tell::kNothing);
}

// A full disk that is tried again and again: what is placed there counts as copied until the write is refused.
TEST(ExposureWatch, IsNotCalmedByMemoryThatIsExposedByTurns) {
  ExposureWatch watch;
  Tell told = Tell::kNothing;
  for (int64_t s = 0; s < 10 && told == Tell::kNothing; ++s) told = watch.update(s % 2 == 0 ? 100 : 400, s * kS);
  EXPECT_EQ(told, Tell::kExposed);
}

}  // namespace
}  // namespace hecaton
