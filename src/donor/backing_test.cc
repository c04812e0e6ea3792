#include "donor/backing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <future>

#include "donor/fake_peer_for_tests.h"
#include "donor/host_for_tests.h"
#include "donor/region.h"

namespace hecaton::donor {
namespace {

using testing::HasSubstr;

// A directory on a disk, gone after the test.
class BackingTest : public testing::Test {
 protected:
  BackingTest() {
    std::string path = (std::filesystem::current_path() / "backing-XXXXXX").string();
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    directory_ = path;
  }
  ~BackingTest() override { std::filesystem::remove_all(directory_); }

  // Null, after a skip, if the tests run in RAM.
  std::unique_ptr<Backing> open(Backing::Limits limits = {}) {
    std::string problem;
    auto backing = Backing::open(directory_, limits, &problem);
    if (!backing.ok()) return nullptr;
    return std::move(backing).value();
  }
  std::unique_ptr<Region> region(Backing& backing, uint64_t bytes = 64_MiB) {
    auto made = Region::create(bytes, &backing).value();
    made->set_limit(pages_in(bytes));
    return made;
  }
  std::string directory_;
};

#define OPEN_OR_SKIP(name, ...)  \
  auto name = open(__VA_ARGS__); \
  if (!name) GTEST_SKIP() << directory_ << " is not on a disk"

Stored store(Region& region, std::span<const PageNumber> pages, uint32_t version, uint16_t stored = kPageBytes) {
  std::vector<Bytes> contents;
  std::vector<PageWrite> writes;
  for (PageNumber page : pages) contents.push_back(content_of(page, version));
  for (size_t i = 0; i < pages.size(); ++i) {
    const auto bytes = std::span(contents[i]).first(stored);
    const uint64_t sum = wire::page_checksum(bytes, pages[i], version);
    writes.push_back({{pages[i], sum, version, wire::PageState::kPresent, stored}, bytes.data()});
  }
  return region.store(writes);
}

// Whether `page` is there with this version's bytes, and the checksum fits them.
bool holds(const Region& region, PageNumber page, uint32_t version) {
  StripeSet stripes;
  stripes.add(page);
  Region::View view(region, stripes);
  const wire::PageEntry entry = view.entry(page);
  Bytes request(wire::read_request_bytes(1)), bytes(kPageBytes);
  wire::encode_read_request(std::span(&page, 1), request.data());
  if (!view.copy(wire::PageListView::decode(request).value(), bytes.data()).ok()) return false;
  const auto stored = std::span(bytes).first(entry.stored_bytes);
  return entry.state == wire::PageState::kPresent && entry.version == version &&
         std::equal(stored.begin(), stored.end(), content_of(page, version).begin()) &&
         entry.checksum == wire::page_checksum(stored, page, version);
}

uint64_t disk_bytes(int fd) {
  struct stat info {};
  EXPECT_EQ(fstat(fd, &info), 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

TEST_F(BackingTest, PagesOfARegionInAFileComeBackAndTheDirectoryStaysEmpty) {
  OPEN_OR_SKIP(backing);
  auto paged = region(*backing);
  ASSERT_EQ(store(*paged, pages_from(0, 256), 1), Stored::kAll);
  std::vector<PageNumber> scattered{PageNumber(700), PageNumber(3), PageNumber(4), PageNumber(5), PageNumber(16383)};
  ASSERT_EQ(store(*paged, scattered, 2), Stored::kAll);
  EXPECT_TRUE(holds(*paged, PageNumber(0), 1));
  EXPECT_TRUE(holds(*paged, PageNumber(255), 1));
  for (PageNumber page : scattered) EXPECT_TRUE(holds(*paged, page, 2)) << page.value;
  EXPECT_EQ(paged->used_pages(), 258u);
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(BackingTest, PagesThatAreStoredShortAreReadShort) {
  OPEN_OR_SKIP(backing);
  auto paged = region(*backing);
  ASSERT_EQ(store(*paged, pages_from(10, 3), 1), Stored::kAll);
  ASSERT_EQ(store(*paged, pages_from(11, 1), 2, 100), Stored::kAll);
  EXPECT_TRUE(holds(*paged, PageNumber(10), 1));
  EXPECT_TRUE(holds(*paged, PageNumber(11), 2));
  EXPECT_TRUE(holds(*paged, PageNumber(12), 1));
}

TEST_F(BackingTest, AReadOfManyPagesTakesEachFromItsPlace) {
  OPEN_OR_SKIP(backing);
  auto paged = region(*backing);
  ASSERT_EQ(store(*paged, pages_from(0, 8), 1), Stored::kAll);
  std::vector<PageNumber> wanted{PageNumber(2), PageNumber(3), PageNumber(90), PageNumber(3), PageNumber(7)};
  Bytes request(wire::read_request_bytes(wanted.size())), bytes(wanted.size() * kPageBytes);
  wire::encode_read_request(wanted, request.data());
  StripeSet stripes;
  stripes.add(PageNumber(0));
  Region::View view(*paged, stripes);
  ASSERT_TRUE(view.copy(wire::PageListView::decode(request).value(), bytes.data()).ok());
  for (size_t i : {0u, 1u, 3u, 4u}) {
    const Bytes right = content_of(wanted[i], 1);
    EXPECT_TRUE(std::equal(right.begin(), right.end(), bytes.begin() + static_cast<long>(i * kPageBytes))) << i;
  }
}

TEST_F(BackingTest, DiscardedPagesGiveTheirDiskSpaceBack) {
  OPEN_OR_SKIP(backing);
  auto file = backing->make_file(64_MiB).value();
  Bytes pages(8_MiB, std::byte{5});
  iovec piece{pages.data(), pages.size()};
  ASSERT_TRUE(file->reserve({PageNumber(0), 2048}).ok());
  ASSERT_TRUE(file->write(PageNumber(0), std::span(&piece, 1)).ok());
  EXPECT_GE(disk_bytes(file->fd()), 8_MiB);
  ASSERT_TRUE(file->punch({PageNumber(0), 2048}).ok());
  EXPECT_LT(disk_bytes(file->fd()), 1_MiB);

  auto paged = region(*backing);
  ASSERT_EQ(store(*paged, pages_from(0, 600), 1), Stored::kAll);
  std::vector<PageRun> runs{{PageNumber(1), 598}};
  paged->discard(runs);
  EXPECT_EQ(paged->used_pages(), 2u);
  EXPECT_TRUE(holds(*paged, PageNumber(0), 1));
  EXPECT_TRUE(holds(*paged, PageNumber(599), 1));
  EXPECT_FALSE(holds(*paged, PageNumber(300), 1));
}

TEST_F(BackingTest, ARegionInAFileIsPinnedForNobody) {
  OPEN_OR_SKIP(backing);
  auto paged = region(*backing);
  EXPECT_FALSE(paged->pin(ExtentNumber(0)).has_value());
}

// The kernel refuses to write beyond the limit of file size as it refuses to on a full disk.
TEST_F(BackingTest, AFullDiskIsAnAnswerAndOldPagesStay) {
  OPEN_OR_SKIP(backing);
  auto paged = region(*backing);
  ASSERT_EQ(store(*paged, pages_from(0, 10), 1), Stored::kAll);
  ASSERT_EQ(store(*paged, pages_from(300, 1), 1), Stored::kAll);
  signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit tight{256 * kPageBytes, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  EXPECT_EQ(store(*paged, pages_from(1000, 20), 1), Stored::kDiskFull);
  EXPECT_EQ(store(*paged, pages_from(10, 20), 1), Stored::kAll);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(paged->used_pages(), 31u);
  EXPECT_TRUE(holds(*paged, PageNumber(0), 1));
  EXPECT_TRUE(holds(*paged, PageNumber(300), 1));
  EXPECT_FALSE(holds(*paged, PageNumber(1000), 1));
  EXPECT_EQ(store(*paged, pages_from(1000, 20), 1), Stored::kAll);
}

uint64_t cached_pages(int fd, uint64_t bytes) {
  void* map = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  EXPECT_NE(map, MAP_FAILED);
  std::vector<unsigned char> state(pages_in(bytes));
  EXPECT_EQ(mincore(map, bytes, state.data()), 0);
  munmap(map, bytes);
  return static_cast<uint64_t>(std::count_if(state.begin(), state.end(), [](unsigned char s) { return s & 1; }));
}

TEST_F(BackingTest, WhatWasWrittenOrReadLeavesThePageCacheButForTheLastExtents) {
  OPEN_OR_SKIP(backing, Backing::Limits{.kept_bytes = 2_MiB, .most_bytes = 8_MiB});
  auto file = backing->make_file(32_MiB).value();
  Bytes extent(kExtentBytes, std::byte{7});
  for (uint64_t i = 0; i < 32; ++i) {
    iovec piece{extent.data(), extent.size()};
    ASSERT_TRUE(file->write(PageNumber(i * kPagesPerExtent), std::span(&piece, 1)).ok());
    backing->touched(file, {PageNumber(i * kPagesPerExtent), kPagesPerExtent});
    backing->wait_for_disk();
  }
  eventually([&] { return cached_pages(file->fd(), 32_MiB) <= 2 * kPagesPerExtent; });
  Bytes read(kExtentBytes);
  for (uint64_t i = 0; i < 32; ++i) {
    ASSERT_TRUE(file->read({PageNumber(i * kPagesPerExtent), kPagesPerExtent}, read.data()).ok());
    EXPECT_EQ(read, extent);
    backing->touched(file, {PageNumber(i * kPagesPerExtent), kPagesPerExtent});
  }
  eventually([&] { return cached_pages(file->fd(), 32_MiB) <= 2 * kPagesPerExtent; });
}

TEST_F(BackingTest, SinglePagesOfManyExtentsCountAsThePagesThatTheyAre) {
  OPEN_OR_SKIP(backing, Backing::Limits{.kept_bytes = 2_MiB, .most_bytes = 2_MiB});
  auto file = backing->make_file(128_MiB).value();
  Bytes page(kPageBytes, std::byte{7});
  for (uint64_t i = 0; i < 128; ++i) {
    iovec piece{page.data(), page.size()};
    ASSERT_TRUE(file->write(PageNumber(i * kPagesPerExtent), std::span(&piece, 1)).ok());
    backing->touched(file, {PageNumber(i * kPagesPerExtent), 1});
    backing->wait_for_disk();
  }
  EXPECT_EQ(cached_pages(file->fd(), 128_MiB), 128u);
}

TEST_F(BackingTest, ARegionThatEndedIsNotKeptByWhatIsStillToBePushedOut) {
  OPEN_OR_SKIP(backing);
  std::weak_ptr<PageFile> file;
  {
    auto kept = backing->make_file(1_MiB).value();
    backing->touched(kept, {PageNumber(0), 1});
    file = kept;
  }
  EXPECT_TRUE(file.expired());
}

// Else a slow disk would hold up a takeover, and, behind it, every VM that opens a region at this donor.
TEST_F(BackingTest, AWriterThatWaitsForTheDiskHoldsUpNoLaterPager) {
  OPEN_OR_SKIP(backing, Backing::Limits{.kept_bytes = 1_MiB, .most_bytes = 0});  // one page, and writers wait
  DonorState donor{64_MiB, 100, {.backing = backing.get()}};
  auto open_region = [&](FakePeer& peer, uint64_t epoch) {
    wire::OpenRegion open = region_named("vm", 8_MiB, 8_MiB);
    open.epoch = epoch;
    EXPECT_EQ(peer.ask(hello_frame(7, wire::Role::kWriteBack)).status(), wire::Status::kOk);
    return peer.ask(open_frame(open)).status();
  };
  FakePeer first(donor), second(donor);
  ASSERT_EQ(open_region(first, 1), wire::Status::kOk);
  std::thread writer([&] { EXPECT_EQ(first.ask(write_frame(1, {PageNumber(3)}, 1)).status(), wire::Status::kOk); });
  eventually([&] { return donor.regions.usage().used_bytes > 0; });
  auto opened = std::async(std::launch::async, [&] { return open_region(second, 2); });
  EXPECT_EQ(opened.wait_for(std::chrono::milliseconds(kPatienceMs)), std::future_status::ready);
  // More than is kept: the disk's thread catches up, and with it the writer.
  auto other = backing->make_file(2_MiB).value();
  backing->touched(other, {PageNumber(0), 2 * kPagesPerExtent});
  writer.join();
  EXPECT_EQ(opened.get(), wire::Status::kOk);
}

TEST(Backing, ADirectoryThatCannotServeIsRefusedWithTheReason) {
  auto problem_of = [](const std::string& directory) {
    std::string problem;
    EXPECT_FALSE(Backing::open(directory, &problem).ok());
    return problem;
  };
  EXPECT_THAT(problem_of("/no/such/place"), HasSubstr("mkdir"));
  EXPECT_THAT(problem_of("/proc/self/maps"), HasSubstr("not a directory"));
  EXPECT_THAT(problem_of("/dev/shm"), HasSubstr("that is RAM"));
  EXPECT_THAT(problem_of("/proc"), HasSubstr("/proc"));
}

}  // namespace
}  // namespace hecaton::donor
