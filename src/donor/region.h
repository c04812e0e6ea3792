// The memory of one region: page bytes and, beside them, a record per page. Taken from the machine as pages arrive,
// given back as they are discarded. The page bytes may be in a file instead (PageFile); records never are. An extent
// that a peer reads by itself (RDMA) is pinned meanwhile: all of it is taken, and nothing given back, since the peer's
// reads must find the bytes where they were.
//
// Threads: any number at once. A page belongs to the stripe of its extent; a stripe's lock guards its bytes and
// records, those in a file too. Several stripes are locked in ascending order, so holders never wait for each other in
// a circle.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <span>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "base/units.h"
#include "donor/backing.h"
#include "os/memory.h"
#include "wire/frame.h"
#include "wire/rdma.h"

namespace hecaton::donor {

// Which stripes an operation needs.
class StripeSet {
 public:
  static constexpr uint32_t kStripes = 32;

  void add(PageNumber page) { bits_ |= uint32_t{1} << (extent_of(page).value % kStripes); }
  uint32_t bits() const { return bits_; }

 private:
  uint32_t bits_ = 0;
};

struct PageWrite {
  wire::PageEntry entry;
  const std::byte* bytes;  // entry.stored_bytes of them, any alignment
};

// What became of pages that were to be stored. Of a failed one that was there before, the old version may be lost.
enum class Stored : uint8_t {
  kAll,
  kNoRoom,      // the limit does not allow it: all is as it was
  kDiskFull,    //
  kDiskFailed,  //
};

class Region {
 public:
  // `bytes` is a multiple of kPageBytes. `backing`: where the page bytes are to be; null: in memory. It must outlive
  // the region. Error: kSystem, the machine gave no address space or no file; kFull, a file cannot be that long.
  static Result<std::unique_ptr<Region>> create(uint64_t bytes, Backing* backing = nullptr);

  // Random: tells it from one that was made anew under the same name, and holds nothing.
  uint64_t id() const { return id_; }
  uint64_t pages() const { return pages_; }
  bool contains(PageNumber page) const { return page.value < pages_; }
  bool contains(PageRun run) const { return run.first.value <= pages_ && run.count <= pages_ - run.first.value; }

  // Pages that it may hold at most, those of pinned extents included; may be changed while in use.
  void set_limit(uint64_t pages) { limit_ = pages; }
  void raise_limit(uint64_t more_pages) { limit_ += more_pages; }
  // To `pages`, but no lower than what is used; returns by how much it fell. Waits for what is under way.
  uint64_t lower_limit(uint64_t pages);
  uint64_t limit() const { return limit_; }
  uint64_t used_pages() const { return used_; }
  // Whether the page bytes are in a file.
  bool in_file() const { return file_ != nullptr; }
  // Of a region in a file: waits, if the disk is far behind.
  void wait_for_disk() {
    if (backing_) backing_->wait_for_disk();
  }

  // While it lives, the pages of its stripes change neither bytes nor record, so that bytes may be sent from where they
  // lie. Never wait for a peer with one in hand: writers of the stripes wait for it.
  class View {
   public:
    View(const Region& region, StripeSet stripes);
    ~View();
    View(const View&) = delete;
    View& operator=(const View&) = delete;

    // `page` must be of the region and of the stripes.
    wire::PageEntry entry(PageNumber page) const;
    const std::byte* bytes(PageNumber page) const;  // of a present page: as many as its entry says; not if in_file()
    // Of a region in a file: each present page to its number in `pages` times kPageBytes. Error: the disk's.
    Result<void> copy(const wire::PageListView& pages, std::byte* to) const;

   private:
    const Region& region_;
    const uint32_t stripes_;
  };

  // Takes all of the pages, each named once and within the region; or none.
  [[nodiscard]] Stored store(std::span<const PageWrite> pages);

  // Keeps an extent's bytes and records where they are. Must end before the region.
  class Pin {
   public:
    Pin(Pin&& other) noexcept : region_(std::exchange(other.region_, nullptr)), extent_(other.extent_) {}
    Pin& operator=(Pin&&) = delete;
    ~Pin() {
      if (region_) region_->unpin(extent_);
    }
    std::span<std::byte> bytes() const;
    // Whole pages, which hold records of no other extent.
    std::span<std::byte> records() const;

   private:
    friend Region;
    Pin(Region* region, ExtentNumber extent) : region_(region), extent_(extent) {}
    Region* region_;
    ExtentNumber extent_;
  };
  // None: a whole extent more would pass the limit, or the region is in a file. `extent` is within the region.
  std::optional<Pin> pin(ExtentNumber extent);

  // Forgets the pages of the runs (within the region) and gives their memory back to the machine.
  void discard(std::span<const PageRun> runs);

 private:
  using Record = wire::PageRecord;  // fresh memory says absent
  // One page of records is one extent's: it is given back when the extent is empty.
  static_assert(sizeof(Record) * kPagesPerExtent == kPageBytes);

  Region(uint64_t pages, Backing* backing, std::shared_ptr<PageFile> file, Mapping bytes, Mapping records,
         Mapping counts, Mapping pins);
  Record& record(PageNumber page) const { return reinterpret_cast<Record*>(records_.data())[page.value]; }
  std::byte* place(PageNumber page) const { return bytes_.data() + page.value * kPageBytes; }
  std::atomic_ref<uint16_t> present_in(ExtentNumber extent) const {
    return std::atomic_ref<uint16_t>(reinterpret_cast<uint16_t*>(counts_.data())[extent.value]);
  }
  // How often the extent is pinned; under its stripe's lock.
  uint16_t& pins_of(ExtentNumber extent) const { return reinterpret_cast<uint16_t*>(pins_.data())[extent.value]; }
  PageRun pages_of(ExtentNumber extent) const;
  std::shared_mutex& stripe_of(ExtentNumber extent) const;
  void unpin(ExtentNumber extent);
  bool claim(uint64_t pages);
  void note(const PageWrite& write);
  bool is_absent(const PageWrite& write) const { return record(write.entry.page).stored_bytes == 0; }
  Stored store_in_file(std::span<const PageWrite> pages);
  Result<void> reserve_in_file(std::span<const PageWrite> pages);
  Result<void> write_to_file(std::span<const PageWrite> pages);
  void give_back_bytes(PageRun run);
  void discard_within(ExtentNumber extent, PageRun run);
  void give_back_empty_records(ExtentNumber extent);
  // Extents are counted in groups too, so that a discard of a huge, nearly empty region does not visit every extent.
  static constexpr uint64_t kExtentsPerGroup = 4096;
  static constexpr uint64_t kPagesPerGroup = kExtentsPerGroup * kPagesPerExtent;
  std::atomic<uint32_t>& present_in_group_of(PageNumber page) { return groups_[page.value / kPagesPerGroup]; }

  const uint64_t id_ = random_id();
  const uint64_t pages_;
  Backing* const backing_;
  const std::shared_ptr<PageFile> file_;  // null: bytes_ has them
  Mapping bytes_;
  Mapping records_;
  Mapping counts_;  // present pages of each extent, 16 bits; written under the stripe's lock
  Mapping pins_;
  std::vector<std::atomic<uint32_t>> groups_;  // present pages of each group
  std::atomic<uint64_t> limit_{0};
  std::atomic<uint64_t> used_{0};
  std::atomic<bool> disk_warned_{false};
  mutable std::array<std::shared_mutex, StripeSet::kStripes> stripes_;
};

}  // namespace hecaton::donor
