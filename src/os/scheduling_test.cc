#include "os/scheduling.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

namespace hecaton {
namespace {

pid_t this_thread() {
  return static_cast<pid_t>(syscall(SYS_gettid));
}

TEST(Scheduling, TellsWhereAThreadRan) {
  std::thread([] {
    for (unsigned processor : usable_processors()) {
      ASSERT_TRUE(run_only_on(processor));
      LastProcessor last;
      EXPECT_EQ(last.of(this_thread()), processor);
      EXPECT_EQ(last.of(this_thread()), processor);  // again, from the file that it kept open
    }
  }).join();
}

TEST(Scheduling, LetsAThreadRunAnywhereAgain) {
  std::thread([] {
    const std::vector<unsigned> before = usable_processors();
    ASSERT_TRUE(run_only_on(before.back()));
    EXPECT_EQ(usable_processors().size(), 1u);
    ASSERT_TRUE(run_anywhere());
    EXPECT_EQ(usable_processors(), before);
  }).join();
}

TEST(Scheduling, KnowsNothingOfAThreadThatIsGone) {
  pid_t gone = 0;
  LastProcessor last;
  std::thread([&] {
    gone = this_thread();
    EXPECT_TRUE(last.of(gone).has_value());
  }).join();
  // Who joins a thread is woken a little before the kernel forgets it.
  while (last.of(gone)) std::this_thread::yield();
  EXPECT_FALSE(run_only_on(CPU_SETSIZE - 1) && usable_processors().back() != CPU_SETSIZE - 1);
}

TEST(Scheduling, LeavesAProcessorAndIsBoundToNone) {
  std::thread([] {
    const std::vector<unsigned> before = usable_processors();
    if (before.size() < 2) GTEST_SKIP() << "there is one processor only";
    ASSERT_TRUE(run_only_on(before.front()));
    ASSERT_TRUE(leave_processor(before.front()));
    EXPECT_EQ(usable_processors(), before);
  }).join();
}

}  // namespace
}  // namespace hecaton
