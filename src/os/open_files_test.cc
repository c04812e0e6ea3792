#include "os/open_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "os/owned_fd.h"

namespace hecaton {
namespace {

rlimit limit_now() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit;
}

TEST(OpenFiles, AreCounted) {
  const uint64_t before = count_open_files();
  OwnedFd one(open("/dev/null", O_RDONLY | O_CLOEXEC)), two(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(count_open_files(), before + 2);
}

TEST(OpenFiles, LimitIsRaisedAndNeverLowered) {
  const rlimit before = limit_now();
  ASSERT_GE(before.rlim_max, 64u);
  const rlimit low{64, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_EQ(raise_open_files(32), 64u);
  EXPECT_EQ(limit_now().rlim_cur, 64u);
  EXPECT_EQ(raise_open_files(before.rlim_max), before.rlim_max);
  EXPECT_EQ(limit_now().rlim_cur, before.rlim_max);
  setrlimit(RLIMIT_NOFILE, &before);
}

TEST(OpenFiles, LimitThatCannotBeReachedIsToldAsItIs) {
  const rlimit before = limit_now();
  const uint64_t reached = raise_open_files(uint64_t{1} << 40);  // more than any kernel allows
  EXPECT_EQ(reached, limit_now().rlim_cur);
  EXPECT_LT(reached, uint64_t{1} << 40);
  setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace hecaton
