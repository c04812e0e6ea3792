#include "donor/region.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <vector>

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

Region::Region(uint64_t pages, Mapping bytes, Mapping records, Mapping counts, Mapping pins)
    : pages_(pages),
      bytes_(std::move(bytes)),
      records_(std::move(records)),
      counts_(std::move(counts)),
      pins_(std::move(pins)),
      groups_((pages + kPagesPerGroup - 1) / kPagesPerGroup) {}

Result<std::unique_ptr<Region>> Region::create(uint64_t bytes) {
  HEC_CHECK(bytes != 0 && bytes % kPageBytes == 0 && bytes <= wire::kMaxRegionBytes);
  uint64_t pages = pages_in(bytes);
  Mapping pages_map = HEC_TRY(Mapping::sparse(bytes));
  Mapping records = HEC_TRY(Mapping::sparse(round_to_pages(pages * sizeof(Record))));
  Mapping counts = HEC_TRY(Mapping::sparse(round_to_pages(extents_in(pages) * sizeof(uint16_t))));
  Mapping pins = HEC_TRY(Mapping::sparse(round_to_pages(extents_in(pages) * sizeof(uint16_t))));
  return std::unique_ptr<Region>(
      new Region(pages, std::move(pages_map), std::move(records), std::move(counts), std::move(pins)));
}

bool Region::claim(uint64_t pages) {
  uint64_t used = used_;
  do {
    uint64_t limit = limit_;
    if (used > limit || pages > limit - used) return false;
  } while (!used_.compare_exchange_weak(used, used + pages));
  return true;
}

void Region::store_one(const PageWrite& write) {
  Record& kept = record(write.entry.page);
  if (kept.stored_bytes == 0) {
    // Relaxed: the stripe's lock orders it; the readers that hold no lock only want a hint.
    present_in(extent_of(write.entry.page)).fetch_add(1, std::memory_order_relaxed);
    ++present_in_group_of(write.entry.page);
  }
  std::memcpy(place(write.entry.page), write.bytes, write.entry.stored_bytes);
  kept = {.checksum = write.entry.checksum, .version = write.entry.version, .stored_bytes = write.entry.stored_bytes};
}

bool Region::store(std::span<const PageWrite> pages) {
  StripeSet stripes;
  for (const PageWrite& write : pages) stripes.add(write.entry.page);
  for_each_stripe(stripes.bits(), [&](size_t i) { stripes_[i].lock(); });
  // Counted before anything is taken: a refused write leaves every old version in place, and touches no memory.
  auto fresh = std::count_if(pages.begin(), pages.end(), [&](const PageWrite& write) {
    return record(write.entry.page).stored_bytes == 0 && pins_of(extent_of(write.entry.page)) == 0;
  });
  bool fits = claim(static_cast<uint64_t>(fresh));
  if (fits) {
    for (const PageWrite& write : pages) store_one(write);
  }
  for_each_stripe(stripes.bits(), [&](size_t i) { stripes_[i].unlock(); });
  return fits;
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
  if (!pinned) give_back(place(run.first), run.count * kPageBytes);
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
