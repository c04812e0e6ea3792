// The preload library in a program of its own (preload_probe.cc); the test plays the pager.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/units.h"
#include "os/memory.h"
#include "os/process.h"
#include "pager/handover.h"

namespace hecaton {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr uint64_t kRamBytes = 16 * kPageBytes;
constexpr uint64_t kStripePages = 2;
constexpr int kTestTimeoutMs = 20'000;

std::string contents(int fd) {
  std::string text;
  char buffer[4096];
  off_t at = 0;
  for (ssize_t got; (got = pread(fd, buffer, sizeof buffer, at)) > 0; at += got) {
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

int count_of(const std::string& needle, const std::string& text) {
  int count = 0;
  for (size_t at = 0; (at = text.find(needle, at)) != std::string::npos; at += needle.size()) ++count;
  return count;
}

// How many threads wait in each of the userfaultfds that process `pid` holds open, in the order of their numbers.
std::vector<int> parked_faults(pid_t pid) {
  namespace fs = std::filesystem;
  const fs::path process = "/proc/" + std::to_string(pid);
  std::map<int, int> waiting;
  for (const auto& entry : fs::directory_iterator(process / "fd")) {
    std::error_code gone;
    if (fs::read_symlink(entry.path(), gone) != "anon_inode:[userfaultfd]") continue;
    std::ifstream info(process / "fdinfo" / entry.path().filename());
    std::string word;
    for (int total; info >> word;) {
      if (word == "total:" && info >> total) waiting[std::stoi(entry.path().filename().string())] = total;
    }
  }
  std::vector<int> counts;
  for (auto [fd, count] : waiting) counts.push_back(count);
  return counts;
}

class Preload : public testing::Test {
 protected:
  void SetUp() override {
    auto features = Userfaultfd::probe();
    if (!features.ok() || !features->enough_for_memory_mode()) GTEST_SKIP() << "no userfaultfd for shared memory here";
    ram_ = create_memfd("ram", kRamBytes).value();
    said_ = create_memfd("said", 0).value();
    complained_ = create_memfd("complained", 0).value();
    int ends[2];
    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    pager_.reset(ends[0]);
    program_end_.reset(ends[1]);
  }

  std::string configuration(unsigned shards = 1) const {
    struct stat file;
    fstat(ram_.get(), &file);
    return "socket=5 inode=" + std::to_string(file.st_dev) + ":" + std::to_string(file.st_ino) +
           " shards=" + std::to_string(shards) + " stripe=" + std::to_string(kStripePages * kPageBytes) + " keep=0:0";
  }

  void start(std::vector<std::string> deeds, std::string configured, int extra_fd = -1) {
    ProcessSpec spec;
    spec.arguments = {HECATON_PRELOAD_PROBE};
    for (std::string& deed : deeds) spec.arguments.push_back(std::move(deed));
    spec.environment = {{"LD_PRELOAD", HECATON_PRELOAD_LIBRARY}};
    if (!configured.empty()) spec.environment.push_back({"HECATON_PRELOAD", std::move(configured)});
    spec.descriptors = {{said_.get(), 1}, {complained_.get(), 2}, {ram_.get(), 4}, {program_end_.get(), 5}};
    if (extra_fd >= 0) spec.descriptors.push_back({extra_fd, 6});
    program_ = ChildProcess::start(spec).value();
    program_end_.reset();
  }
  void start(std::vector<std::string> deeds) { start(std::move(deeds), configuration()); }

  Handover accept() {
    Handover handover = receive_handover(pager_.get(), Deadline::after_ms(kTestTimeoutMs)).value();
    EXPECT_TRUE(acknowledge(pager_.get(), true).ok());
    return handover;
  }

  // Answers faults with pages full of their number plus one, until the program ends. Which pages came to which
  // userfaultfd is kept in served_.
  int serve(Handover& handover) {
    std::vector<pollfd> waiting;
    for (const Userfaultfd& uffd : handover.uffds) waiting.push_back({uffd.fd(), POLLIN, 0});
    waiting.push_back({program_.pidfd(), POLLIN, 0});
    int faults = 0;
    for (;;) {
      if (poll(waiting.data(), waiting.size(), kTestTimeoutMs) <= 0) return -1;
      for (size_t shard = 0; shard < handover.uffds.size(); ++shard) {
        if (waiting[shard].revents & POLLIN) faults += serve_shard(handover, shard);
      }
      if (waiting.back().revents) return faults;
    }
  }
  int serve_shard(Handover& handover, size_t shard) {
    FaultEvent events[8];
    const size_t count = handover.uffds[shard].read_events(events).value();
    for (size_t i = 0; i < count; ++i) {
      const uint64_t page = (events[i].address - handover.address.value) / kPageBytes;
      served_.emplace_back(shard, page);
      std::string bytes(kPageBytes, static_cast<char>(page + 1));
      handover.uffds[shard].copy(RemoteAddress{events[i].address}, bytes.data(), bytes.size(), false);
    }
    return static_cast<int>(count);
  }

  void finish() {
    int status = program_.wait().value();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status << "\n" << complaints();
  }
  std::string said() const { return contents(said_.get()); }
  std::string complaints() const { return contents(complained_.get()); }

  // A file of its own for each test, as they run beside each other, in the build's folder: a /tmp in memory may not
  // know O_DIRECT.
  static std::string a_file() {
    std::string path = HECATON_TEST_FOLDER "/preload_test_file_XXXXXX";
    const OwnedFd file(mkstemp(path.data()));
    EXPECT_EQ(static_cast<ssize_t>(kPageBytes), write(file.get(), std::string(kPageBytes, 'x').data(), kPageBytes))
        << path;
    return path;
  }

  OwnedFd ram_, said_, complained_, pager_, program_end_;
  ChildProcess program_;
  std::vector<std::pair<size_t, uint64_t>> served_;  // shard and page
};

TEST_F(Preload, HandsTheRamOverAndItsFaultsAreServed) {
  start({"map", "read=0", "read=8192", "write=4096", "read=4097", "environment", "cloexec=5"});
  Handover handover = accept();
  EXPECT_EQ(kRamBytes, handover.bytes);
  EXPECT_EQ(0u, handover.offset);
  EXPECT_EQ(program_.pid(), handover.pid);
  EXPECT_EQ(3, serve(handover));
  finish();
  EXPECT_EQ("map ok\nread 1\nread 3\nread 2\nenvironment\ncloexec 1\n", said());
  EXPECT_EQ("", complaints());
}

TEST_F(Preload, HandsTheStripesOverEachWithTheUserfaultfdOfItsShard) {
  start({"map", "read=0", "read=8192", "read=20480", "read=28672", "read=61440"}, configuration(3));
  Handover handover = accept();
  ASSERT_EQ(3u, handover.uffds.size());
  EXPECT_EQ(kStripePages * kPageBytes, handover.stripe_bytes);
  EXPECT_EQ(5, serve(handover));
  finish();
  using Served = std::vector<std::pair<size_t, uint64_t>>;
  EXPECT_EQ((Served{{0, 0}, {1, 2}, {2, 5}, {0, 7}, {1, 15}}), served_);
  EXPECT_EQ("map ok\nread 1\nread 3\nread 6\nread 8\nread 16\n", said());
  EXPECT_EQ("", complaints());
}

TEST_F(Preload, HandsOverAsManyShardsAsThereMayBe) {
  start({"map", "read=0"}, configuration(16));
  Handover handover = accept();
  EXPECT_EQ(16u, handover.uffds.size());
  EXPECT_EQ(1, serve(handover));
  finish();
}

TEST_F(Preload, KeepsAUserfaultfdOfItsOwnSoThatALostPagerStopsTheProgram) {
  start({"map", "read=0"});
  {
    Handover handover = accept();
    pollfd fault{handover.uffds[0].fd(), POLLIN, 0};
    ASSERT_EQ(1, poll(&fault, 1, kTestTimeoutMs));
  }
  EXPECT_EQ(std::vector<int>{1}, parked_faults(program_.pid()))
      << "the fault is no longer waiting: it was answered with zeros";
  program_.signal(SIGKILL);
  EXPECT_TRUE(program_.wait().ok());
  EXPECT_EQ("map ok\n", said());
}

TEST_F(Preload, KeepsTheUserfaultfdOfEveryShard) {
  start({"map", "read=20480"}, configuration(3));
  {
    Handover handover = accept();
    pollfd fault{handover.uffds[2].fd(), POLLIN, 0};
    ASSERT_EQ(1, poll(&fault, 1, kTestTimeoutMs));
  }
  EXPECT_EQ((std::vector<int>{0, 0, 1}), parked_faults(program_.pid()));
  program_.signal(SIGKILL);
  EXPECT_TRUE(program_.wait().ok());
  EXPECT_EQ("map ok\n", said());
}

TEST_F(Preload, RefusesTheMappingWithoutAPager) {
  pager_.reset();
  start({"map", "environment"});
  finish();
  EXPECT_THAT(said(), HasSubstr("map EIO\n"));
  EXPECT_THAT(complaints(), HasSubstr("the pager"));
  EXPECT_THAT(complaints(), HasSubstr("guest RAM is not mapped"));
}

TEST_F(Preload, RefusesTheMappingWhenThePagerSaysNo) {
  start({"map"});
  Handover handover = receive_handover(pager_.get(), Deadline::after_ms(kTestTimeoutMs)).value();
  EXPECT_TRUE(acknowledge(pager_.get(), false).ok());
  finish();
  EXPECT_EQ("map EIO\n", said());
  EXPECT_THAT(complaints(), HasSubstr("refused"));
}

TEST_F(Preload, RefusesTheMappingWhenThePagerEndsInsteadOfAnswering) {
  start({"map"});
  Handover handover = receive_handover(pager_.get(), Deadline::after_ms(kTestTimeoutMs)).value();
  pager_.reset();
  finish();
  EXPECT_EQ("map EIO\n", said());
  EXPECT_THAT(complaints(), HasSubstr("the pager is gone"));
}

TEST_F(Preload, RefusesTheMappingOnAnAnswerThatIsNone) {
  start({"map"});
  Handover handover = receive_handover(pager_.get(), Deadline::after_ms(kTestTimeoutMs)).value();
  ASSERT_EQ(16, write(pager_.get(), "sixteen letters!", 16));
  finish();
  EXPECT_EQ("map EIO\n", said());
  EXPECT_THAT(complaints(), HasSubstr("answer"));
}

TEST_F(Preload, RefusesASecondMappingAndAPrivateOneAndMoving) {
  start({"map-private", "map", "map-again", "map-private", "move", "read=0"});
  Handover handover = accept();
  EXPECT_EQ(1, serve(handover));
  finish();
  EXPECT_EQ("map-private EIO\nmap ok\nmap-again EIO\nmap-private EIO\nmove EPERM\nread 1\n", said());
  EXPECT_THAT(complaints(), HasSubstr("mapped already"));
}

TEST_F(Preload, IgnoresHintsForHugeAndMergedPages) {
  start({"map", "huge", "merge"});
  Handover handover = accept();
  EXPECT_EQ(0, serve(handover));
  finish();
  EXPECT_EQ("map ok\nhuge ok\nmerge ok\n", said());
}

TEST_F(Preload, OpensFilesWithoutDirectAccessAndSaysSoOnce) {
  std::string file = a_file();
  start({"open=" + file, "open_2=" + file, "openat=" + file, "create=" + file + "2"});
  finish();
  EXPECT_EQ("open " + file + " ok\nopen_2 " + file + " ok\nopenat " + file + " ok\ncreate 640\nsetfl append\n", said());
  EXPECT_EQ(1, count_of("O_DIRECT", complaints())) << complaints();
  EXPECT_THAT(complaints(), HasSubstr(file + " is opened without O_DIRECT"));
  unlink(file.c_str());
  unlink((file + "2").c_str());
}

TEST_F(Preload, TakesDirectAccessFromInheritedFiles) {
  std::string path = a_file();
  OwnedFd file(open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  if (!file.valid()) GTEST_SKIP() << "no O_DIRECT on this file system";
  start({"direct=6"}, configuration(), file.get());
  finish();
  EXPECT_EQ("direct 0\n", said());
  EXPECT_THAT(complaints(), HasSubstr("O_DIRECT"));
  unlink(path.c_str());
}

TEST_F(Preload, RefusesDevicesThatWriteBehindThePageTable) {
  start({"open=/dev/vfio/vfio", "open_2=/dev/iommu", "openat=/dev/vhost-vdpa-0", "open=/dev/vhost-scsi",
         "open=/dev/udmabuf", "open=/dev/infiniband/uverbs0", "open=/dev/sg0", "open=/dev/null"});
  finish();
  EXPECT_EQ(7, count_of(" EPERM\n", said())) << said();
  EXPECT_THAT(said(), HasSubstr("/dev/null ok\n"));
  EXPECT_THAT(complaints(), HasSubstr("/dev/vfio/vfio is not opened: "));
}

TEST_F(Preload, RefusesToShareTheRamWithAnotherProcess) {
  start({"share=4", "share=1"});
  finish();
  EXPECT_EQ("share EPERM\nshare ok\n", said());
  EXPECT_THAT(complaints(), HasSubstr("vhost-user"));
}

TEST_F(Preload, SurvivesAProgramThatStartsTheRealOne) {
  start({"exec=" HECATON_PRELOAD_PROBE});
  Handover handover = accept();
  EXPECT_EQ(1, serve(handover));
  finish();
  EXPECT_EQ("map ok\nread 1\n", said());
}

TEST_F(Preload, PassesEverythingThroughWithoutConfiguration) {
  std::string file = a_file();
  start({"map", "map-again", "share=4", "read=0", "environment", "open=" + file}, "");
  finish();
  EXPECT_THAT(said(), HasSubstr("map ok\nmap-again ok\nshare ok\nread 0\nenvironment LD_PRELOAD\n"));
  EXPECT_EQ("", complaints());
  unlink(file.c_str());
}

TEST_F(Preload, EndsTheProgramOnAConfigurationThatItCannotRead) {
  for (std::string bad :
       {"socket=5", "socket=5 inode=1", "socket=5 inode=1:2", "socket=x inode=1:2 shards=1 stripe=4096 keep=0:0",
        "socket=5 inode=1:2 shards=1 stripe=4096 keep=0:0 more",
        "socket=5 inode=99999999999999999999999:2 shards=1 stripe=4096 keep=0:0",
        "socket=5 inode=1:2 shards=0 stripe=4096 keep=0:0", "socket=5 inode=1:2 shards=17 stripe=4096 keep=0:0",
        "socket=5 inode=1:2 shards=2 stripe=0 keep=0:0", "socket=5 inode=1:2 shards=2 stripe=4097 keep=0:0",
        "nonsense"}) {
    start({"map"}, bad);
    int status = program_.wait().value();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 3) << bad;
    EXPECT_THAT(complaints(), HasSubstr(bad));
    EXPECT_EQ("", said());
    program_end_.reset(fcntl(pager_.get(), F_DUPFD_CLOEXEC, 0));
  }
}

}  // namespace
}  // namespace hecaton
