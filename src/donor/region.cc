#include "donor/region.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/log.h"

namespace hecaton::donor {
namespace {

constexpr size_t round_to_pages(size_t bytes) {
  return pages_in(bytes) * kPageBytes;
}

// Calls `use` with the index of each stripe in the set, ascending.
template <typename Use>
void for_each_stripe(uint32_t bits, Use use) {
  for (; bits != 0; bits &= bits - 1) use(static_cast<size_t>(std::countr_zero(bits)));
}

void give_back(std::byte* first, size_t bytes) {
  HEC_CHECK(madvise(first, bytes, MADV_DONTNEED) == 0);
}

// Sorted, without overlaps: overlapping runs of a hostile frame must not multiply the work.
std::vector<PageRun> merged(std::span<const PageRun> runs) {
  std::vector<PageRun> sorted(runs.begin(), runs.end());
  std::sort(sorted.begin(), sorted.end(), [](const PageRun& a, const PageRun& b) { return a.first < b.first; });
  std::vector<PageRun> out;
  for (const PageRun& run : sorted) {
    if (!out.empty() && run.first <= out.back().end()) {
      out.back().count = std::max(out.back().end(), run.end()) - out.back().first;
    } else {
      out.push_back(run);
    }
  }
  return out;
}

// In a list of pages: how many from `first` on are neighbours and all say yes.
template <typename PageAt, typename Includes>
uint64_t run_length(size_t first, size_t size, PageAt page_at, Includes includes) {
  size_t i = first;
  while (i < size && includes(i) && page_at(i) == page_at(first) + (i - first)) ++i;
  return i - first;
}

}  // namespace

Region::View::View(const Region& region, StripeSet stripes) : region_(region), stripes_(stripes.bits()) {
  for_each_stripe(stripes_, [&](size_t i) { region_.stripes_[i].lock_shared(); });
}

Region::View::~View() {
  for_each_stripe(stripes_, [&](size_t i) { region_.stripes_[i].unlock_shared(); });
}

wire::PageEntry Region::View::entry(PageNumber page) const {
  const Record& record = region_.record(page);
  if (record.stored_bytes == 0) return {page, 0, 0, wire::PageState::kAbsent, 0};
  return {page, record.checksum, record.version, wire::PageState::kPresent, static_cast<uint16_t>(record.stored_bytes)};
}

const std::byte* Region::View::bytes(PageNumber page) const {
  return region_.place(page);
}

Result<void> Region::View::copy(const wire::PageListView& pages, std::byte* to) const {
  auto page_at = [&](size_t i) { return pages[i]; };
  auto is_present = [&](size_t i) { return region_.record(pages[i]).stored_bytes != 0; };
  for (size_t i = 0; i < pages.size();) {
    const uint64_t run = run_length(i, pages.size(), page_at, is_present);
    if (run > 0) {
      HEC_TRY(region_.file_->read({pages[i], run}, to + i * kPageBytes));
      region_.backing_->touched(region_.file_, {pages[i], run});
    }
    i += std::max<uint64_t>(run, 1);
  }
  return {};
}

Region::Region(uint64_t pages, Backing* backing, std::shared_ptr<PageFile> file, Mapping bytes, Mapping records,
               Mapping counts, Mapping pins)
    : pages_(pages),
      backing_(backing),
      file_(std::move(file)),
      bytes_(std::move(bytes)),
      records_(std::move(records)),
      counts_(std::move(counts)),
      pins_(std::move(pins)),
      groups_((pages + kPagesPerGroup - 1) / kPagesPerGroup) {}

Result<std::unique_ptr<Region>> Region::create(uint64_t bytes, Backing* backing) {
  HEC_CHECK(bytes != 0 && bytes % kPageBytes == 0 && bytes <= wire::kMaxRegionBytes);
  uint64_t pages = pages_in(bytes);
  std::shared_ptr<PageFile> file;
  Mapping pages_map;
  if (backing) {
    file = HEC_TRY(backing->make_file(bytes));
  } else {
    pages_map = HEC_TRY(Mapping::sparse(bytes));
  }
  Mapping records = HEC_TRY(Mapping::sparse(round_to_pages(pages * sizeof(Record))));
  Mapping counts = HEC_TRY(Mapping::sparse(round_to_pages(extents_in(pages) * sizeof(uint16_t))));
  Mapping pins = HEC_TRY(Mapping::sparse(round_to_pages(extents_in(pages) * sizeof(uint16_t))));
  return std::unique_ptr<Region>(new Region(pages, backing, std::move(file), std::move(pages_map), std::move(records),
                                            std::move(counts), std::move(pins)));
}

bool Region::claim(uint64_t pages) {
  uint64_t used = used_;
  do {
    uint64_t limit = limit_;
    if (used > limit || pages > limit - used) return false;
  } while (!used_.compare_exchange_weak(used, used + pages));
  return true;
}

// With all stripes in hand: what is claimed is claimed under one of them.
uint64_t Region::lower_limit(uint64_t pages) {
  for (auto& stripe : stripes_) stripe.lock();
  const uint64_t before = limit_;
  const uint64_t after = std::max<uint64_t>(pages, used_);
  const uint64_t less = before > after ? before - after : 0;
  limit_ -= less;
  for (auto& stripe : stripes_) stripe.unlock();
  return less;
}

void Region::note(const PageWrite& write) {
  Record& kept = record(write.entry.page);
  if (kept.stored_bytes == 0) {
    // Relaxed: the stripe's lock orders it; the readers that hold no lock only want a hint.
    present_in(extent_of(write.entry.page)).fetch_add(1, std::memory_order_relaxed);
    ++present_in_group_of(write.entry.page);
  }
  kept = {.checksum = write.entry.checksum, .version = write.entry.version, .stored_bytes = write.entry.stored_bytes};
}

Result<void> Region::reserve_in_file(std::span<const PageWrite> pages) {
  auto page_at = [&](size_t i) { return pages[i].entry.page; };
  auto is_new = [&](size_t i) { return is_absent(pages[i]); };
  for (size_t i = 0; i < pages.size();) {
    const uint64_t run = run_length(i, pages.size(), page_at, is_new);
    if (run > 0) HEC_TRY(file_->reserve({page_at(i), run}));
    i += std::max<uint64_t>(run, 1);
  }
  return {};
}

// Whole pages, also of those that are stored shorter: the kernel need not read what is replaced.
Result<void> Region::write_to_file(std::span<const PageWrite> pages) {
  static constexpr std::array<std::byte, kPageBytes> kZeros{};
  auto page_at = [&](size_t i) { return pages[i].entry.page; };
  std::vector<iovec> pieces;
  for (size_t i = 0; i < pages.size();) {
    const uint64_t run = run_length(i, pages.size(), page_at, [](size_t) { return true; });
    pieces.clear();
    for (const PageWrite& write : pages.subspan(i, run)) {
      const size_t stored = write.entry.stored_bytes;
      pieces.push_back({const_cast<std::byte*>(write.bytes), stored});
      if (stored < kPageBytes) pieces.push_back({const_cast<std::byte*>(kZeros.data()), kPageBytes - stored});
    }
    HEC_TRY(file_->write(page_at(i), pieces));
    backing_->touched(file_, {page_at(i), run});
    i += run;
  }
  return {};
}

Stored Region::store_in_file(std::span<const PageWrite> pages) {
  Result<void> stored = reserve_in_file(pages);
  if (stored.ok()) stored = write_to_file(pages);
  if (stored.ok()) return Stored::kAll;
  for (const PageWrite& write : pages) {
    if (is_absent(write)) give_back_bytes({write.entry.page, 1});
  }
  if (!disk_warned_.exchange(true)) {
    event_log().warn("pages are refused, under {}: {}", backing_->directory(), stored.error().describe());
  }
  return stored.error().code == ErrorCode::kFull ? Stored::kDiskFull : Stored::kDiskFailed;
}

Stored Region::store(std::span<const PageWrite> pages) {
  StripeSet stripes;
  for (const PageWrite& write : pages) stripes.add(write.entry.page);
  for_each_stripe(stripes.bits(), [&](size_t i) { stripes_[i].lock(); });
  // Counted before anything is taken: a refused write leaves every old version in place, and touches no memory.
  auto fresh = std::count_if(pages.begin(), pages.end(), [&](const PageWrite& write) {
    return record(write.entry.page).stored_bytes == 0 && pins_of(extent_of(write.entry.page)) == 0;
  });
  Stored outcome = claim(static_cast<uint64_t>(fresh)) ? Stored::kAll : Stored::kNoRoom;
  if (outcome == Stored::kAll && file_) {
    outcome = store_in_file(pages);
    if (outcome != Stored::kAll) used_ -= static_cast<uint64_t>(fresh);
  }
  if (outcome == Stored::kAll) {
    for (const PageWrite& write : pages) {
      if (!file_) std::memcpy(place(write.entry.page), write.bytes, write.entry.stored_bytes);
      note(write);
    }
  }
  for_each_stripe(stripes.bits(), [&](size_t i) { stripes_[i].unlock(); });
  return outcome;
}

void Region::give_back_bytes(PageRun run) {
  if (!file_) {
    give_back(place(run.first), run.count * kPageBytes);
  } else if (Result<void> punched = file_->punch(run); !punched.ok()) {
    event_log().warn("disk space of discarded pages is kept: {}", punched.error().describe());
  }
}

void Region::give_back_empty_records(ExtentNumber extent) {
  give_back(records_.data() + extent.value * kPageBytes, kPageBytes);
}

// `run` lies within `extent`.
void Region::discard_within(ExtentNumber extent, PageRun run) {
  StripeSet stripe;
  stripe.add(run.first);
  std::unique_lock lock(stripes_[static_cast<size_t>(std::countr_zero(stripe.bits()))]);
  uint16_t gone = 0;
  for (PageNumber page = run.first; page < run.end(); ++page) {
    Record& kept = record(page);
    if (kept.stored_bytes == 0) continue;  // not written to: that would take memory for records of nothing
    kept = {};
    ++gone;
  }
  if (gone == 0) return;
  const bool pinned = pins_of(extent) > 0;
  if (!pinned) give_back_bytes(run);
  auto present = present_in(extent);
  uint16_t left = static_cast<uint16_t>(present.load(std::memory_order_relaxed) - gone);
  present.store(left, std::memory_order_relaxed);
  if (left == 0 && !pinned) give_back_empty_records(extent);
  present_in_group_of(run.first) -= gone;
  if (!pinned) used_ -= gone;
}

PageRun Region::pages_of(ExtentNumber extent) const {
  const PageNumber first(extent.value * kPagesPerExtent);
  return {first, std::min<uint64_t>(kPagesPerExtent, pages_ - first.value)};
}

std::shared_mutex& Region::stripe_of(ExtentNumber extent) const {
  return stripes_[extent.value % StripeSet::kStripes];
}

std::optional<Region::Pin> Region::pin(ExtentNumber extent) {
  if (file_) return std::nullopt;
  std::unique_lock lock(stripe_of(extent));
  uint16_t& pins = pins_of(extent);
  if (pins == UINT16_MAX) return std::nullopt;
  if (pins == 0 && !claim(pages_of(extent).count - present_in(extent).load(std::memory_order_relaxed))) {
    return std::nullopt;
  }
  ++pins;
  return Pin(this, extent);
}

void Region::unpin(ExtentNumber extent) {
  std::unique_lock lock(stripe_of(extent));
  if (--pins_of(extent) > 0) return;
  const PageRun all = pages_of(extent);
  const uint64_t present = present_in(extent).load(std::memory_order_relaxed);
  for (PageNumber page = all.first; page < all.end(); ++page) {
    PageRun absent{page, 0};
    for (; page < all.end() && record(page).stored_bytes == 0; ++page) ++absent.count;
    if (absent.count > 0) give_back(place(absent.first), absent.count * kPageBytes);
  }
  if (present == 0) give_back_empty_records(extent);
  used_ -= all.count - present;
}

std::span<std::byte> Region::Pin::bytes() const {
  const PageRun pages = region_->pages_of(extent_);
  return {region_->place(pages.first), pages.count * kPageBytes};
}

std::span<std::byte> Region::Pin::records() const {
  return {region_->records_.data() + extent_.value * kPageBytes, kPageBytes};
}

// Counts are looked at without the lock: a page that arrives at this moment on another connection came after the
// discard.
void Region::discard(std::span<const PageRun> runs) {
  auto end_of = [](PageNumber page, uint64_t unit) { return PageNumber((page.value / unit + 1) * unit); };
  for (const PageRun& run : merged(runs)) {
    PageNumber page = run.first;
    while (page < run.end()) {
      if (present_in_group_of(page) == 0) {
        page = end_of(page, kPagesPerGroup);
        continue;
      }
      PageNumber end = std::min(run.end(), end_of(page, kPagesPerExtent));
      ExtentNumber extent = extent_of(page);
      if (present_in(extent).load(std::memory_order_relaxed) != 0) discard_within(extent, {page, end - page});
      page = end;
    }
  }
}

}  // namespace hecaton::donor
