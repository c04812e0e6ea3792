#include "node/processes.h"

#include <gmock/gmock.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

namespace hecaton::node {
namespace {

using testing::HasSubstr;

// Which of the next forks gives a process that ends at once, as if its node had died before it was connected.
struct DeadFork {
  int number = 0, which = -1;
};
DeadFork dead_fork;

void let_fork_die(int which) {
  static const bool watched = pthread_atfork([] { ++dead_fork.number; }, nullptr,
                                             [] {
                                               if (dead_fork.number == dead_fork.which) _exit(9);
                                             }) == 0;
  ASSERT_TRUE(watched);
  dead_fork = {0, which};
}

NodeConfig config_of(size_t nodes) {
  NodeConfig config;
  config.pages.assign(nodes, 1);
  return config;
}

TEST(Processes, ANodeThatEndsBeforeAllAreConnectedIsNamedAtOnce) {
  let_fork_die(2);
  std::string problem;
  auto nodes = Processes::start(
      config_of(3), [](Node&, size_t) { return Result<uint64_t>(0); }, &problem);
  dead_fork = {};
  ASSERT_FALSE(nodes.ok());
  EXPECT_EQ(nodes.error().code, ErrorCode::kClosed);
  EXPECT_THAT(problem, HasSubstr("node 1 ended before all nodes were connected: exit status 9"));
}

TEST(Processes, TheEndOfAnyNodeIsNoticedWhileOthersWork) {
  auto nodes = Processes::start(config_of(2), [](Node&, size_t number) -> Result<uint64_t> {
    if (number == 1) raise(SIGKILL);
    for (;;) pause();  // without a touch of memory, so that it does not miss the other node
  });
  ASSERT_TRUE(nodes.ok()) << nodes.error().describe();
  (*nodes)->go();
  EXPECT_FALSE((*nodes)->all_done(Deadline::never()));
  EXPECT_THAT((*nodes)->ends(), HasSubstr("node 1 ended: signal 9"));
}

// As if a node's end took long: its connections are closed, and its line to its parent only after the ends that this
// causes, when nobody holds the other end of `caused` any more.
[[noreturn]] void hold_line_open(OwnedFd& caused_from, OwnedFd& caused_to) {
  for (int fd = 3; fd < 1024; ++fd) {
    int domain = 0;
    socklen_t size = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_INET) close(fd);
  }
  caused_to.reset();
  char none;
  _exit(read(caused_from.get(), &none, 1) == 0 ? 0 : 1);
}

TEST(Processes, ANodeWhoseEndShowsAfterTheEndsThatItCausesIsNamedToo) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  OwnedFd from(ends[0]), to(ends[1]);
  auto nodes = Processes::start(config_of(2), [&](Node&, size_t number) -> Result<uint64_t> {
    if (number == 1) {
      if (fork() == 0) hold_line_open(from, to);
      raise(SIGKILL);
    }
    for (;;) pause();
  });
  ASSERT_TRUE(nodes.ok()) << nodes.error().describe();
  to.reset();
  (*nodes)->go();
  EXPECT_FALSE((*nodes)->all_done(Deadline::never()));
  EXPECT_THAT((*nodes)->ends(), HasSubstr("node 1 ended: signal 9"));
}

TEST(Processes, OneNodeThatCannotRunHereDecidesThoughOthersEndOtherwise) {
  auto nodes = Processes::start(config_of(3), [](Node&, size_t number) -> Result<uint64_t> {
    if (number == 2) return Error{ErrorCode::kUnsupported, 0, "nothing to run on"};
    for (;;) pause();  // until it misses the other
  });
  ASSERT_TRUE(nodes.ok()) << nodes.error().describe();
  (*nodes)->go();
  EXPECT_FALSE((*nodes)->all_done(Deadline::never()));
  EXPECT_TRUE((*nodes)->skipped(Deadline::after_ms(60'000)));
  EXPECT_THAT((*nodes)->ends(), HasSubstr("node 2 ended: nothing to run on"));
}

TEST(Processes, OfNodesThatWorkNoneHasEnded) {
  auto nodes = Processes::start(config_of(2), [](Node&, size_t number) { return Result<uint64_t>(number); });
  ASSERT_TRUE(nodes.ok()) << nodes.error().describe();
  (*nodes)->go();
  EXPECT_TRUE((*nodes)->all_done(Deadline::after_ms(60'000)));
  EXPECT_EQ((*nodes)->ends(), "");
  EXPECT_TRUE((*nodes)->look_and_end(Deadline::after_ms(60'000)));
}

}  // namespace
}  // namespace hecaton::node
