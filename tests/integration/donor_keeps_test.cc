// hecatond as a process: pages on a disk (--backing), and what it keeps for VMs that lost their connection (--grace).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include <cstdlib>
#include <filesystem>

#include "base/sanitized_for_tests.h"
#include "donor_process.h"

namespace hecaton::donor {
namespace {

using testing::HasSubstr;
using wire::Operation;
using wire::Status;

namespace fs = std::filesystem;

// A directory under the working directory, gone after the test.
class Scratch {
 public:
  Scratch() {
    std::string path = (fs::current_path() / "donor-XXXXXX").string();
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    path_ = path;
  }
  ~Scratch() { fs::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A file system of its own on a small image, where this process may mount one.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& size) {
    const std::string image = scratch_.path() + "/image";
    directory_ = scratch_.path() + "/disk";
    fs::create_directory(directory_);
    mounted_ = system(("{ truncate -s " + size + " " + image + " && mkfs.ext4 -q -m 0 -O ^has_journal " + image +
                       " && mount -o loop " + image + " " + directory_ + "; } >/dev/null 2>&1")
                          .c_str()) == 0;
    if (mounted_) fs::remove_all(directory_ + "/lost+found");
  }
  ~SmallDisk() {
    if (mounted_) umount2(directory_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::string& directory() const { return directory_; }

 private:
  Scratch scratch_;
  std::string directory_;
  bool mounted_ = false;
};

uint64_t free_bytes(const std::string& directory) {
  return fs::space(directory).available;
}

bool in_memory(const std::string& directory) {
  struct statfs system {};
  return statfs(directory.c_str(), &system) == 0 && system.f_type == TMPFS_MAGIC;
}

void open_vm(Host& host, uint64_t reserve = 32_MiB, uint64_t instance = 7, uint8_t secret = 1) {
  host.ask(hello_frame(instance));
  Reply opened = host.ask(open_frame(region_named("vm", 64_MiB, reserve, secret)));
  EXPECT_EQ(opened.status(), Status::kOk) << opened.text();
}

TEST(HecatondBacking, PagesLieOnTheDiskAndNothingOfThemHasAName) {
  Scratch scratch;
  if (in_memory(scratch.path())) GTEST_SKIP() << "the tests run in RAM";
  Donor donor({.more = {"--backing", scratch.path()}});
  Host host(donor.address());
  open_vm(host);
  const uint64_t before_kib = donor.status("RssAnon");
  for (uint64_t first = 0; first < 8192; first += 256) {
    ASSERT_EQ(host.ask(write_frame(1, pages_from(first, 256), 1)).status(), Status::kOk);
  }
  EXPECT_TRUE(fs::is_empty(scratch.path()));
  // Records, and what a frame needs: not the pages.
  EXPECT_TRUE(kSanitized || donor.status("RssAnon") < before_kib + 8 * 1024);
  for (uint64_t first = 0; first < 8192; first += 256) {
    EXPECT_TRUE(holds_true_pages(host.ask(read_frame(1, pages_from(first, 256)))));
  }
  donor.program().signal(SIGTERM);
  EXPECT_EQ(donor.program().end().exit_status, 0);
  EXPECT_TRUE(fs::is_empty(scratch.path()));
}

TEST(HecatondBacking, KilledItLeavesNothingAndTheDiskSpaceIsFreeAgain) {
  SmallDisk disk("64M");
  if (!disk.mounted()) GTEST_SKIP() << "no loop mounts here";
  const uint64_t before = free_bytes(disk.directory());
  Donor donor({.more = {"--backing", disk.directory()}});
  Host host(donor.address());
  open_vm(host);
  for (uint64_t first = 0; first < 4096; first += 256) host.ask(write_frame(1, pages_from(first, 256), 1));
  EXPECT_LE(free_bytes(disk.directory()), before - 16_MiB);
  donor.program().signal(SIGKILL);
  donor.program().end();
  EXPECT_TRUE(fs::is_empty(disk.directory()));
  EXPECT_EQ(free_bytes(disk.directory()), before);
}

TEST(HecatondBacking, OnAFullDiskWritesAreRefusedWithTheReasonAndNothingElseIsHurt) {
  SmallDisk disk("24M");
  if (!disk.mounted()) GTEST_SKIP() << "no loop mounts here";
  Donor donor({.more = {"--backing", disk.directory()}});
  Host host(donor.address());
  open_vm(host, 64_MiB);
  uint64_t taken = 0;
  Reply reply;
  while (taken < 16384 && (reply = host.ask(write_frame(1, pages_from(taken, 256), 1))).status() == Status::kOk) {
    taken += 256;
  }
  EXPECT_EQ(reply.status(), Status::kFull);
  EXPECT_THAT(reply.text(), HasSubstr("disk of this donor"));
  EXPECT_GT(taken, 0u);
  EXPECT_EQ(donor.stat().used_bytes, taken * kPageBytes);
  for (uint64_t first = 0; first < taken; first += 256) {
    EXPECT_TRUE(holds_true_pages(host.ask(read_frame(1, pages_from(first, 256)))));
  }
  host.ask(discard_frame(1, {{PageNumber(0), 256}}));
  EXPECT_EQ(host.ask(write_frame(1, pages_from(0, 256), 2)).status(), Status::kOk);
  donor.program().signal(SIGTERM);
  EXPECT_THAT(donor.program().end().err, HasSubstr("disk under --backing has free"));  // it was said at the start
}

TEST(HecatondBacking, TheBestRdmaIsNone) {
  Scratch scratch;
  if (in_memory(scratch.path())) GTEST_SKIP() << "the tests run in RAM";
  Donor donor({.more = {"--backing", scratch.path(), "--rdma", "auto"}});
  donor.program().signal(SIGTERM);
  EXPECT_EQ(donor.program().end().out, "");
}

TEST(HecatondGrace, ANewProcessOfAVmThatLostItsConnectionsFindsItsPages) {
  Donor donor;
  {
    Host lost(donor.address());
    open_vm(lost);
    lost.ask(write_frame(1, pages_from(0, 100), 1));
  }
  eventually([&] { return donor.stat().lingering_regions == 1; });
  EXPECT_EQ(donor.stat().lingering_bytes, 32_MiB);
  EXPECT_LE(donor.stat().lingering_ms, 30'000u);
  Host other(donor.address());
  open_vm(other, 16_MiB, 8, 2);  // a new VM of that name
  Host next(donor.address());
  open_vm(next);
  EXPECT_TRUE(holds_true_pages(next.ask(read_frame(1, pages_from(0, 100)))));
  EXPECT_EQ(donor.stat().lingering_regions, 0u);
  EXPECT_EQ(donor.stat().used_bytes, 100 * kPageBytes);
}

TEST(HecatondGrace, WhatIsHeldIsPartOfTheRefusal) {
  Donor donor;
  {
    Host lost(donor.address());
    open_vm(lost, 48_MiB);
  }
  eventually([&] { return donor.stat().lingering_regions == 1; });
  Host host(donor.address());
  host.ask(hello_frame(8));
  Reply full = host.ask(open_frame(region_named("another", 64_MiB, 32_MiB, 2)));
  EXPECT_EQ(full.status(), Status::kFull);
  EXPECT_THAT(full.text(), HasSubstr("48 MiB are held for up to"));
}

TEST(HecatondGrace, AShortGraceEndsByItself) {
  Donor donor({.more = {"--grace", "1"}});
  {
    Host lost(donor.address());
    open_vm(lost);
  }
  eventually([&] { return donor.stat().regions == 0; });
}

TEST(HecatondGrace, AClosedRegionIsGoneAtOnce) {
  Donor donor({.more = {"--grace", "100000"}});
  Host host(donor.address()), second(donor.address());
  open_vm(host);
  open_vm(second);
  EXPECT_EQ(host.ask(frame(Operation::kCloseRegion, {}, 1)).status(), Status::kOk);
  EXPECT_EQ(donor.stat().regions, 1u);
  EXPECT_EQ(second.ask(frame(Operation::kCloseRegion, {}, 1)).status(), Status::kOk);
  EXPECT_EQ(donor.stat().regions, 0u);
}

}  // namespace
}  // namespace hecaton::donor
