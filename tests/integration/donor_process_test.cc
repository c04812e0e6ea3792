// hecatond as a process: what it prints, how it ends, and what it stands.
#include "donor_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <random>

#include "base/sanitized_for_tests.h"
#include "os/own_loopback_for_tests.h"

namespace hecaton::donor {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using wire::Operation;
using wire::Status;

TEST(Hecatond, SaysWhatItLendsAndWhereAndEndsOnSigterm) {
  Donor donor;
  EXPECT_EQ(donor.ready_line(), "hecatond: lending 64 MiB on 127.0.0.1:" + std::to_string(donor.address().port));
  donor.program().signal(SIGTERM);
  Ended ended = donor.program().end();
  EXPECT_EQ(ended.exit_status, 0);
  EXPECT_EQ(ended.out, "");
  EXPECT_EQ(ended.err, "");
}

TEST(Hecatond, EndsOnSigintToo) {
  Donor donor;
  donor.program().signal(SIGINT);
  EXPECT_EQ(donor.program().end().exit_status, 0);
}

TEST(Hecatond, WrongUsageIsExplainedWithStatusTwo) {
  struct Case {
    std::vector<std::string> arguments;
    const char* says;
  };
  const Case cases[] = {
      {{}, "--size is required"},
      {{"--size", "1.5G"}, "--size '1.5G'"},
      {{"--size", "0"}, "the size is zero"},
      {{"--size", "4000"}, "less than one page"},
      {{"--size", "1G", "--listen", "127.0.0.1:99999"}, "the port is not a number"},
      {{"--size", "1G", "--listen", "[::1"}, "closing ']'"},
      {{"--size", "1G", "--listen", "0.0.0.0:9999"}, "--insecure"},
      {{"--size", "1G", "--listen", "[::]:9999"}, "not encrypted"},
      {{"--size", "1G", "--threads", "0"}, "--threads"},
      {{"--size", "1G", "--threads", "many"}, "--threads"},
      {{"--size", "1G", "--parent-fd", "99"}, "not open"},
      {{"--size", "1G", "--backing", "/dev/shm"}, "that is RAM"},
      {{"--size", "1G", "--backing", "/no/such/place"}, "mkdir"},
      {{"--size", "1G", "--backing", "/tmp", "--rdma", "on"}, "no RDMA"},
      {{"--size", "1G", "--grace", "-1"}, "--grace"},
      {{"--size", "1G", "--nonsense"}, "--nonsense"},
  };
  for (const Case& wrong : cases) {
    Ended ended = run_hecatond(wrong.arguments);
    EXPECT_EQ(ended.exit_status, 2) << wrong.says;
    EXPECT_THAT(ended.err, StartsWith("hecatond: "));
    EXPECT_THAT(ended.err, HasSubstr(wrong.says));
    EXPECT_EQ(ended.out, "");
  }
}

TEST(Hecatond, APlaceWhereItCannotListenIsExplainedWithStatusThree) {
  Donor donor;
  Ended taken = run_hecatond({"--size", "1M", "--listen", donor.address().printable()});
  EXPECT_EQ(taken.exit_status, 3);
  EXPECT_THAT(taken.err, HasSubstr(donor.address().printable() + " is taken"));
  Ended foreign = run_hecatond({"--size", "1M", "--listen", "192.0.2.1:0", "--insecure"});
  EXPECT_EQ(foreign.exit_status, 3);
  EXPECT_THAT(foreign.err, HasSubstr("no address of this machine"));
}

TEST(Hecatond, RdmaThatIsAskedForOnALoopbackAddressIsExplainedWithStatusThree) {
  // True with and without a device: no device has a loopback address.
  Ended ended = run_hecatond({"--size", "1M", "--listen", "127.0.0.1:0", "--rdma", "on"});
  EXPECT_EQ(ended.exit_status, 3);
  EXPECT_THAT(ended.err, HasSubstr("RDMA"));
  EXPECT_THAT(ended.err, HasSubstr("leave --rdma out"));
  EXPECT_EQ(run_hecatond({"--size", "1M", "--listen", "127.0.0.1:0", "--rdma", "maybe"}).exit_status, 2);
}

TEST(Hecatond, HelpAndVersionGoToStandardOutput) {
  Ended help = run_hecatond({"--help"});
  EXPECT_EQ(help.exit_status, 0);
  EXPECT_THAT(help.out, HasSubstr("Examples:"));
  EXPECT_THAT(help.out, HasSubstr("--listen"));
  EXPECT_EQ(help.out.find("parent-fd"), std::string::npos);
  Ended version = run_hecatond({"--version"});
  EXPECT_EQ(version.exit_status, 0);
  EXPECT_THAT(version.out, StartsWith("hecatond "));
}

TEST(Hecatond, LendingMoreThanThereIsIsAWarning) {
  Donor donor({.size = "900T"});
  donor.program().signal(SIGTERM);
  Ended ended = donor.program().end();
  EXPECT_EQ(ended.exit_status, 0);
  EXPECT_THAT(ended.err, HasSubstr("more than"));
}

TEST(Hecatond, EndsWhenItsParentsDescriptorCloses) {
  PipeEnds life = make_pipe();
  Donor donor({.more = {"--parent-fd", "5"}, .descriptors = {{life.read.get(), 5}}});
  ASSERT_EQ(write(life.write.get(), "x", 1), 1);  // data is no reason
  EXPECT_EQ(donor.stat().regions, 0u);
  life.write.reset();
  EXPECT_EQ(donor.program().end().exit_status, 0);
}

TEST(Hecatond, TwoVmsKeepTheirPagesApart) {
  Donor donor;
  Host one(donor.address()), two(donor.address());
  one.open("one", 1);
  two.open("two", 2);
  one.ask(write_frame(1, pages_from(0, 100), 11));
  two.ask(write_frame(1, pages_from(50, 100), 22));
  Reply first = one.ask(read_frame(1, pages_from(0, 200)));
  Reply second = two.ask(read_frame(1, pages_from(0, 200)));
  EXPECT_TRUE(holds_true_pages(first));
  EXPECT_TRUE(holds_true_pages(second));
  EXPECT_EQ(wire::PageSetView::decode(first.body)->entry(99).version, 11u);
  EXPECT_EQ(wire::PageSetView::decode(second.body)->entry(99).version, 22u);
  EXPECT_EQ(wire::PageSetView::decode(second.body)->entry(0).state, wire::PageState::kAbsent);
  EXPECT_EQ(donor.stat().regions, 2u);
}

TEST(Hecatond, MemoryIsTakenAsPagesArriveAndGivenBack) {
  Donor donor;
  Host host(donor.address());
  host.ask(hello_frame());
  host.ask(open_frame(region_named("vm", 64_GiB, 64_MiB)));
  uint64_t empty_kib = donor.status("RssAnon");
  for (uint64_t first = 0; first < 8192; first += 256) {
    ASSERT_EQ(host.ask(write_frame(1, pages_from(first, 256), 1)).status(), Status::kOk);
  }
  uint64_t full_kib = donor.status("RssAnon");
  EXPECT_GT(full_kib, empty_kib + 32 * 1024);
  host.ask(discard_frame(1, {{PageNumber(0), 4096}}));
  EXPECT_LT(donor.status("RssAnon"), full_kib - 15 * 1024);
  host.ask(frame(Operation::kCloseRegion, {}, 1));
  eventually([&] { return donor.status("RssAnon") < full_kib - 31 * 1024; });
}

TEST(Hecatond, TwoThousandConnectionsAreServedByAFewThreadsAndLittleMemory) {
  raise_file_limit();
  Donor donor({.more = {"--threads", "2"}, .before = "ulimit -S -n 256"});  // it raises the limit itself
  uint64_t before_kib = donor.status("RssAnon");
  std::vector<std::unique_ptr<Host>> hosts;
  for (int i = 0; i < 2000; ++i) hosts.push_back(std::make_unique<Host>(donor.address()));
  for (auto& host : hosts) ASSERT_TRUE(host->say(hello_frame()).ok());
  for (auto& host : hosts) ASSERT_EQ(host->reply().value().status(), Status::kOk);
  EXPECT_EQ(donor.stat().connections, 2001u);
  hosts[0]->ask(open_frame(region_named("vm", 64_MiB, 8_MiB)));
  hosts[1999]->ask(open_frame(region_named("vm", 64_MiB, 8_MiB)));
  hosts[0]->ask(write_frame(1, pages_from(0, 10), 4));
  EXPECT_TRUE(holds_true_pages(hosts[1999]->ask(read_frame(1, pages_from(0, 10)))));
  EXPECT_LE(donor.status("Threads"), 8u);  // two that serve, acceptor, reaper, main; a sanitizer may add its own
  EXPECT_LT(donor.status("RssAnon"), before_kib + 24 * 1024);
}

TEST(Hecatond, OutOfDescriptorsItServesThoseItHasAndLaterTheRest) {
  if (kSanitized) {
    GTEST_SKIP() << "the undefined behaviour sanitizer needs descriptors of its own to look at an object's type";
  }
  Donor donor({.more = {"--threads", "1"}, .before = "ulimit -n 40"});
  std::vector<std::unique_ptr<Host>> hosts;
  for (int i = 0; i < 100; ++i) {
    hosts.push_back(std::make_unique<Host>(donor.address()));
    ASSERT_TRUE(hosts.back()->say(hello_frame()).ok());
  }
  EXPECT_EQ(hosts[0]->reply().value().status(), Status::kOk);
  // Each one that goes makes room for one that waits, in the order in which they came.
  for (int i = 1; i < 100; ++i) {
    hosts[static_cast<size_t>(i - 1)].reset();
    ASSERT_EQ(hosts[static_cast<size_t>(i)]->reply().value().status(), Status::kOk) << i;
  }
}

TEST(Hecatond, GarbageOfPortScannersDisturbsNobody) {
  Donor donor;
  Host good(donor.address());
  good.open("vm");
  good.ask(write_frame(1, pages_from(0, 10), 1));
  std::mt19937 random(testing::UnitTest::GetInstance()->random_seed());
  for (int i = 0; i < 200; ++i) {
    Host scanner(donor.address());
    Bytes garbage(1 + random() % 5000);
    for (std::byte& b : garbage) b = static_cast<std::byte>(random());
    (void)scanner.say(garbage).ok();
    if (i % 2 != 0) {  // half of them hang up at once, with a reset
      linger at_once{1, 0};
      setsockopt(scanner.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
  }
  EXPECT_TRUE(holds_true_pages(good.ask(read_frame(1, pages_from(0, 10)))));
  eventually([&] { return donor.stat().connections == 2; });
}

TEST(Hecatond, HalfSentFramesHoldUpNobodyAndCostNoMemoryInAdvance) {
  raise_file_limit();
  Donor donor({.more = {"--threads", "1"}});
  uint64_t before_kib = donor.status("RssAnon");
  std::vector<std::unique_ptr<Host>> halves;
  Bytes write = write_frame(1, pages_from(0, 256), 1);  // announces 1 MiB each
  for (int i = 0; i < 300; ++i) {
    halves.push_back(std::make_unique<Host>(donor.address()));
    halves.back()->open("vm");
    ASSERT_TRUE(halves.back()->say(Bytes(write.begin(), write.begin() + 2000)).ok());
  }
  Host good(donor.address());
  good.open("vm");
  EXPECT_EQ(good.ask(write).status(), Status::kOk);
  EXPECT_TRUE(holds_true_pages(good.ask(read_frame(1, pages_from(0, 256)))));
  EXPECT_LT(donor.status("RssAnon"), before_kib + 100 * 1024);
}

TEST(Hecatond, AHostThatIsKilledLeavesNothingBehind) {
  Donor donor({.more = {"--grace", "0"}});
  PipeEnds ready = make_pipe();
  pid_t host = fork();
  ASSERT_GE(host, 0);
  if (host == 0) {
    Host doomed(donor.address());
    doomed.open("vm");
    doomed.ask(write_frame(1, pages_from(0, 100), 1));
    (void)doomed.say(read_frame(1, pages_from(0, 100))).ok();
    if (::write(ready.write.get(), "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char told;
  ASSERT_EQ(read(ready.read.get(), &told, 1), 1);
  EXPECT_EQ(donor.stat().used_bytes, 100 * kPageBytes);
  kill(host, SIGKILL);
  waitpid(host, nullptr, 0);
  eventually([&] { return donor.stat().regions == 0; });
  EXPECT_EQ(donor.stat().reserved_bytes, 0u);
  Host next(donor.address());
  next.open("vm", 8);  // the name is free for the next run of the VM
}

TEST(Hecatond, WhenItIsKilledItsHostsLearnItAndTheNextOneHoldsNothing) {
  Donor donor({.listen = own_loopback() + ":0"});
  Host host(donor.address());
  host.open("vm");
  uint64_t instance = donor.stat().donor_instance;
  donor.program().signal(SIGKILL);
  EXPECT_EQ(donor.program().end().exit_status, 128 + SIGKILL);
  EXPECT_TRUE(host.is_closed());
  Donor next({.listen = donor.address().printable()});
  EXPECT_NE(next.stat().donor_instance, instance);
  EXPECT_EQ(next.stat().regions, 0u);
}

TEST(Hecatond, SigtermWhileServingCutsNoReplyInTwo) {
  Donor donor;
  Host host(donor.address());
  host.open("vm");
  host.ask(write_frame(1, pages_from(0, 256), 1));
  for (int i = 0; i < 24; ++i) ASSERT_TRUE(host.say(read_frame(1, pages_from(0, 256))).ok());
  ASSERT_TRUE(host.reply().ok());
  donor.program().signal(SIGTERM);
  Result<Reply> last = host.reply();
  for (; last.ok(); last = host.reply()) EXPECT_TRUE(holds_true_pages(*last));
  EXPECT_EQ(last.error().code, ErrorCode::kClosed);
  EXPECT_FALSE(host.cut_short());
  EXPECT_EQ(donor.program().end().exit_status, 0);
}

}  // namespace
}  // namespace hecaton::donor
