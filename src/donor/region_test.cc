#include "donor/region.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdio>
#include <random>
#include <thread>

#include "base/sanitized_for_tests.h"
#include "donor/frames_for_tests.h"

namespace hecaton::donor {
namespace {

using wire::PageState;

std::unique_ptr<Region> make_region(uint64_t bytes, uint64_t limit_pages) {
  auto region = Region::create(bytes).value();
  region->set_limit(limit_pages);
  return region;
}

struct Source {
  Bytes bytes;
  PageWrite write;
};

Source page_source(PageNumber page, uint32_t version) {
  Source source{content_of(page, version), {}};
  uint64_t sum = wire::page_checksum(source.bytes, page, version);
  source.write = {{page, sum, version, PageState::kPresent}, source.bytes.data()};
  return source;
}

bool store(Region& region, std::span<const PageNumber> pages, uint32_t version) {
  std::vector<Source> sources;
  std::vector<PageWrite> writes;
  sources.reserve(pages.size());
  for (PageNumber page : pages) {
    sources.push_back(page_source(page, version));
    writes.push_back(sources.back().write);
  }
  return region.store(writes) == Stored::kAll;
}

bool store(Region& region, PageNumber page, uint32_t version) {
  return store(region, std::span(&page, 1), version);
}

Region::View* view_of(const Region& region, PageNumber page, std::optional<Region::View>& place) {
  StripeSet stripes;
  stripes.add(page);
  return &place.emplace(region, stripes);
}

wire::PageEntry entry_of(const Region& region, PageNumber page) {
  std::optional<Region::View> place;
  return view_of(region, page, place)->entry(page);
}

bool holds(const Region& region, PageNumber page, uint32_t version) {
  std::optional<Region::View> place;
  Region::View* view = view_of(region, page, place);
  wire::PageEntry entry = view->entry(page);
  return entry.state == PageState::kPresent && entry.version == version &&
         std::memcmp(view->bytes(page), content_of(page, version).data(), kPageBytes) == 0;
}

TEST(Region, APageNeverWrittenIsAbsent) {
  auto region = make_region(8_MiB, 10);
  EXPECT_EQ(entry_of(*region, PageNumber(3)).state, PageState::kAbsent);
  EXPECT_EQ(region->used_pages(), 0u);
}

TEST(Region, AStoredPageComesBackWithItsRecord) {
  auto region = make_region(8_MiB, 10);
  ASSERT_TRUE(store(*region, PageNumber(700), 5));
  EXPECT_TRUE(holds(*region, PageNumber(700), 5));
  EXPECT_EQ(entry_of(*region, PageNumber(701)).state, PageState::kAbsent);
  EXPECT_EQ(region->used_pages(), 1u);
}

TEST(Region, AnOverwrittenPageIsCountedOnce) {
  auto region = make_region(8_MiB, 1);
  ASSERT_TRUE(store(*region, PageNumber(1), 1));
  ASSERT_TRUE(store(*region, PageNumber(1), 2));
  EXPECT_TRUE(holds(*region, PageNumber(1), 2));
  EXPECT_EQ(region->used_pages(), 1u);
}

TEST(Region, AStoreBeyondTheLimitTakesNothingAndKeepsOldVersions) {
  auto region = make_region(8_MiB, 3);
  ASSERT_TRUE(store(*region, pages_from(0, 2), 1));
  EXPECT_FALSE(store(*region, pages_from(0, 4), 2));
  EXPECT_TRUE(holds(*region, PageNumber(0), 1));
  EXPECT_EQ(entry_of(*region, PageNumber(2)).state, PageState::kAbsent);
  EXPECT_EQ(region->used_pages(), 2u);
  region->set_limit(4);
  EXPECT_TRUE(store(*region, pages_from(0, 4), 2));
}

TEST(Region, ADiscardMakesRoomAndTouchesNoNeighbour) {
  auto region = make_region(8_MiB, 600);
  ASSERT_TRUE(store(*region, pages_from(100, 600), 1));
  std::vector<PageRun> runs{{PageNumber(101), 598}};  // three extents, from the middle of one to the middle of another
  region->discard(runs);
  EXPECT_EQ(region->used_pages(), 2u);
  EXPECT_TRUE(holds(*region, PageNumber(100), 1));
  EXPECT_TRUE(holds(*region, PageNumber(699), 1));
  EXPECT_EQ(entry_of(*region, PageNumber(300)).state, PageState::kAbsent);
  EXPECT_TRUE(store(*region, pages_from(101, 598), 2));
}

TEST(Region, OverlappingAndRepeatedRunsCountOnce) {
  auto region = make_region(8_MiB, 600);
  ASSERT_TRUE(store(*region, pages_from(0, 300), 1));
  std::vector<PageRun> runs{{PageNumber(200), 100}, {PageNumber(0), 250}, {PageNumber(0), 250}, {PageNumber(5), 0}};
  region->discard(runs);
  region->discard(runs);
  EXPECT_EQ(region->used_pages(), 0u);
}

TEST(Region, RunsThatPassTheEndOrWrapAroundAreNotContained) {
  auto region = make_region(1_MiB, 1);
  EXPECT_TRUE(region->contains(PageRun{PageNumber(0), 256}));
  EXPECT_TRUE(region->contains(PageRun{PageNumber(256), 0}));
  EXPECT_FALSE(region->contains(PageRun{PageNumber(1), 256}));
  EXPECT_FALSE(region->contains(PageRun{PageNumber(1), UINT64_MAX}));
  EXPECT_FALSE(region->contains(PageRun{PageNumber(UINT64_MAX), 2}));
}

TEST(Region, ADiscardOfAHugeRegionFindsTheFewPagesThatAreThere) {
  auto region = make_region(256_GiB, 100);
  std::vector<PageNumber> few{PageNumber(0), PageNumber(region->pages() / 2 + 77), PageNumber(region->pages() - 1)};
  ASSERT_TRUE(store(*region, few, 1));
  std::vector<PageRun> all_but_first{{PageNumber(1), region->pages() - 1}};
  for (int i = 0; i < 1000; ++i) region->discard(all_but_first);
  EXPECT_EQ(region->used_pages(), 1u);
  EXPECT_TRUE(holds(*region, PageNumber(0), 1));
}

// Bytes of private anonymous memory of this process that are in RAM or swap.
uint64_t anonymous_bytes() {
  FILE* file = fopen("/proc/self/smaps_rollup", "r");
  char line[256];
  uint64_t kib = 0;
  while (file && fgets(line, sizeof line, file)) {
    if (sscanf(line, "Anonymous: %lu kB", &kib) == 1) break;
  }
  if (file) fclose(file);
  return kib << 10;
}

TEST(Region, AnEmptyRegionCostsAlmostNothingAndADiscardGivesMemoryBack) {
  uint64_t at_start = anonymous_bytes();
  auto region = make_region(64_GiB, 1 << 20);
  EXPECT_LT(anonymous_bytes(), at_start + 1_MiB);
  for (uint64_t first = 0; first < 16384; first += 256) ASSERT_TRUE(store(*region, pages_from(first, 256), 1));
  uint64_t filled = anonymous_bytes();
  EXPECT_GT(filled, at_start + 64_MiB);
  std::vector<PageRun> half{{PageNumber(0), 8192}};
  region->discard(half);
  EXPECT_LT(anonymous_bytes(), filled - 31_MiB);
  std::vector<PageRun> all{{PageNumber(0), region->pages()}};
  region->discard(all);
  EXPECT_LT(anonymous_bytes(), filled - 63_MiB);
}

TEST(Region, RecordsOfEmptyExtentsAreGivenBackToo) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer keeps memory of its own beside ours";
  auto region = make_region(8_GiB, 8192);
  uint64_t empty = anonymous_bytes();
  std::vector<PageNumber> scattered;  // one page an extent: as much memory for records as for bytes
  for (uint64_t extent = 0; extent < 8192; ++extent) scattered.push_back(PageNumber(extent * kPagesPerExtent));
  for (PageNumber page : scattered) ASSERT_TRUE(store(*region, page, 1));
  EXPECT_GT(anonymous_bytes(), empty + 63_MiB);
  std::vector<PageRun> all{{PageNumber(0), region->pages()}};
  region->discard(all);
  EXPECT_LT(anonymous_bytes(), empty + 4_MiB);
}

TEST(Region, RefusedPagesCostNoMemory) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer keeps memory of its own beside ours";
  auto region = make_region(8_GiB, 0);
  uint64_t empty = anonymous_bytes();
  for (uint64_t extent = 0; extent < 8192; ++extent) {
    ASSERT_FALSE(store(*region, PageNumber(extent * kPagesPerExtent), 1));
  }
  EXPECT_LT(anonymous_bytes(), empty + 4_MiB);
}

TEST(Region, AWriteWaitsForTheViewsOfItsPages) {
  auto region = make_region(1_MiB, 256);
  ASSERT_TRUE(store(*region, PageNumber(0), 1));
  std::atomic<bool> started{false};
  std::thread writer;
  {
    std::optional<Region::View> place;
    Region::View* view = view_of(*region, PageNumber(0), place);
    writer = std::thread([&] {
      started = true;
      EXPECT_TRUE(store(*region, PageNumber(0), 2));
    });
    while (!started) std::this_thread::yield();
    for (int look = 0; look < 20'000 && !testing::Test::HasFailure(); ++look) {
      EXPECT_EQ(view->entry(PageNumber(0)).version, 1u);
      if (look % 100 == 0) std::this_thread::yield();
    }
    EXPECT_EQ(std::memcmp(view->bytes(PageNumber(0)), content_of(PageNumber(0), 1).data(), kPageBytes), 0);
  }
  writer.join();
  EXPECT_TRUE(holds(*region, PageNumber(0), 2));
}

// Sanitizers aside, this is what holds the promise that a reply is never torn: a view's pages stand still.
TEST(Region, ParallelWritersReadersAndDiscardersNeverTearAPage) {
  auto region = make_region(4_MiB, 1024);
  std::atomic<bool> torn{false};
  auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (uint32_t round = 1; round <= 400; ++round) {
      uint64_t first = random() % 1000;
      std::vector<PageNumber> pages = pages_from(first, 1 + random() % 24);
      if (round % 8 == 0) {
        std::vector<PageRun> runs{{pages.front(), pages.size()}};
        region->discard(runs);
      } else if (!store(*region, pages, round)) {
        torn = true;
      }
      StripeSet stripes;
      for (PageNumber page : pages) stripes.add(page);
      Region::View view(*region, stripes);
      for (PageNumber page : pages) {
        wire::PageEntry entry = view.entry(page);
        if (entry.state == PageState::kAbsent) continue;
        if (wire::page_checksum({view.bytes(page), entry.stored_bytes}, page, entry.version) != entry.checksum)
          torn = true;
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 4; ++seed) threads.emplace_back(work, seed);
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(torn);
  uint64_t present = 0;
  for (uint64_t page = 0; page < region->pages(); ++page) {
    present += entry_of(*region, PageNumber(page)).state == PageState::kPresent;
  }
  EXPECT_EQ(region->used_pages(), present);
}

PageWrite write_of(const Bytes& content, PageNumber page, uint32_t version) {
  return {{page, wire::page_checksum(content, page, version), version, wire::PageState::kPresent}, content.data()};
}

bool is_in_memory(const std::byte* page) {
  unsigned char there = 0;
  EXPECT_EQ(mincore(const_cast<std::byte*>(page), kPageBytes, &there), 0);
  return (there & 1) != 0;
}

TEST(RegionPin, KeepsBytesAndRecordsInPlaceThroughADiscard) {
  auto region = Region::create(4_MiB).value();
  region->set_limit(2 * kPagesPerExtent);
  const PageNumber page(kPagesPerExtent + 3);
  Bytes content = content_of(page, 1);
  PageWrite write = write_of(content, page, 1);
  ASSERT_EQ(region->store(std::span(&write, 1)), Stored::kAll);
  auto pin = region->pin(ExtentNumber(1));
  ASSERT_TRUE(pin);
  auto* records = reinterpret_cast<const wire::PageRecord*>(pin->records().data());
  EXPECT_EQ(records[3].stored_bytes, kPageBytes);
  EXPECT_EQ(records[3].version, 1u);
  EXPECT_EQ(records[3].checksum, write.entry.checksum);
  EXPECT_EQ(std::memcmp(pin->bytes().data() + 3 * kPageBytes, content.data(), kPageBytes), 0);
  PageRun run{page, 1};
  region->discard(std::span(&run, 1));
  EXPECT_EQ(records[3].stored_bytes, 0u);
  EXPECT_TRUE(is_in_memory(pin->bytes().data() + 3 * kPageBytes));
  ASSERT_EQ(region->store(std::span(&write, 1)), Stored::kAll);
  EXPECT_EQ(records[3].stored_bytes, kPageBytes);
}

TEST(RegionPin, CountsTheWholeExtentAndGivesBackWhatIsNotThereAtItsEnd) {
  auto region = Region::create(4_MiB).value();
  region->set_limit(kPagesPerExtent + 1);
  const PageNumber kept(3), elsewhere(2 * kPagesPerExtent);
  Bytes content = content_of(kept, 1), other = content_of(elsewhere, 1);
  PageWrite writes[] = {write_of(content, kept, 1), write_of(other, elsewhere, 1)};
  ASSERT_EQ(region->store(std::span(writes, 1)), Stored::kAll);
  std::byte* touched = nullptr;
  {
    auto pin = region->pin(ExtentNumber(0));
    ASSERT_TRUE(pin);
    auto again = region->pin(ExtentNumber(0));
    ASSERT_TRUE(again);
    EXPECT_EQ(region->used_pages(), kPagesPerExtent);
    EXPECT_FALSE(region->pin(ExtentNumber(1)));
    EXPECT_EQ(region->store(std::span(writes + 1, 1)), Stored::kAll);  // the one page beside it
    Bytes more = content_of(PageNumber(9), 1);
    PageWrite within = write_of(more, PageNumber(9), 1);
    EXPECT_EQ(region->store(std::span(&within, 1)), Stored::kAll);
    EXPECT_EQ(region->used_pages(), kPagesPerExtent + 1);
    touched = pin->bytes().data() + 4 * kPageBytes;
    *touched = std::byte{1};  // as registering it does
  }
  EXPECT_FALSE(is_in_memory(touched));
  EXPECT_EQ(region->used_pages(), 3u);
  StripeSet stripes;
  stripes.add(kept);
  Region::View view(*region, stripes);
  EXPECT_EQ(std::memcmp(view.bytes(kept), content.data(), kPageBytes), 0);
}

TEST(RegionPin, OfTheLastExtentEndsWithTheRegion) {
  auto region = Region::create(1_MiB + 2 * kPageBytes).value();
  region->set_limit(region->pages());
  auto pin = region->pin(ExtentNumber(1));
  ASSERT_TRUE(pin);
  EXPECT_EQ(pin->bytes().size(), 2 * kPageBytes);
  EXPECT_EQ(region->used_pages(), 2u);
}

}  // namespace
}  // namespace hecaton::donor
