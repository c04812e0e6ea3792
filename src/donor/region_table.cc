#include "donor/region_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace hecaton::donor {
namespace {

// A VM has a few for each of its fault threads: no one VM takes all that a donor has.
constexpr uint64_t kMostAttachments = 1024;

using Secret = std::array<std::byte, wire::kSecretBytes>;

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerSecond = 1'000'000'000;

Refusal taken_over(const std::string& name) {
  return {wire::Status::kBusy, fmt::format("a later pager of this VM has taken region '{}' over", name)};
}

// In a time that does not tell how much of a guess was right.
bool same_secret(const Secret& a, const Secret& b) {
  volatile unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference = difference | std::to_integer<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

uint64_t pages_to_reserve(const wire::OpenRegion& wanted) {
  return pages_in(std::min(wanted.reserve_bytes, wanted.region_bytes));
}

std::string size_of(uint64_t pages) {
  return format_size(pages * kPageBytes);
}

int64_t up_to_seconds(uint64_t ms) {
  return static_cast<int64_t>((ms + 999) / 1000);
}

}  // namespace

std::variant<RegionTable::Attachment, Refusal> RegionTable::open(const wire::OpenRegion& wanted,
                                                                 uint64_t client_instance) {
  end_lingering();  // their room may be wanted now
  return table_.with([&](Table& table) {
    Slot* slot = find(table, wanted);
    return slot ? join(table, *slot, wanted, client_instance) : create(table, wanted, client_instance);
  });
}

// The region that `wanted` means: the one with its secret; or one with another that is in use, to be refused.
RegionTable::Slot* RegionTable::find(Table& table, const wire::OpenRegion& wanted) {
  Slot* others = nullptr;
  auto [first, end] = table.slots.equal_range(wanted.name);
  for (auto at = first; at != end; ++at) {
    Slot& slot = *at->second;
    if (same_secret(slot.secret, wanted.secret)) return &slot;
    if (slot.attachments > 0) others = &slot;
  }
  return others;
}

std::variant<RegionTable::Attachment, Refusal> RegionTable::create(Table& table, const wire::OpenRegion& wanted,
                                                                   uint64_t client_instance) {
  uint64_t reserve = pages_to_reserve(wanted);
  if (reserve > lends_pages_ - table.reserved_pages) return full(table, wanted.name, reserve);
  Result<std::unique_ptr<Region>> region = Region::create(wanted.region_bytes, options_.backing);
  if (!region.ok()) return no_region(wanted, region.error());
  auto slot = std::make_unique<Slot>();
  slot->secret = wanted.secret;
  slot->client_instance = client_instance;
  slot->region = std::move(region).value();
  slot->name = wanted.name;
  slot->epoch = wanted.epoch;
  slot->region->set_limit(reserve);
  slot->attachments = 1;
  Slot* kept = slot.get();
  table.slots.emplace(wanted.name, std::move(slot));
  table.reserved_pages += reserve;
  event_log().info("region opened: name='{}' size='{}' reserved='{}'", wanted.name, format_size(wanted.region_bytes),
                   size_of(reserve));
  return Attachment(this, kept, wanted.epoch);
}

Refusal RegionTable::no_region(const wire::OpenRegion& wanted, const Error& error) const {
  if (options_.backing) {
    return {wire::Status::kResources, fmt::format("the donor has no file for the {} of region '{}' under {} ({})",
                                                  format_size(wanted.region_bytes), wanted.name,
                                                  options_.backing->directory(), error.describe())};
  }
  return {wire::Status::kResources,
          fmt::format("the donor's machine gave no address space for the {} of region '{}' ({}); see 'ulimit -v' "
                      "and vm.overcommit_memory there",
                      format_size(wanted.region_bytes), wanted.name, error.describe())};
}

std::variant<RegionTable::Attachment, Refusal> RegionTable::join(Table& table, Slot& slot,
                                                                 const wire::OpenRegion& wanted,
                                                                 uint64_t client_instance) {
  if (!same_secret(slot.secret, wanted.secret)) {
    return Refusal{
        wire::Status::kRefused,
        // Not a word more than anybody learns who tries to make it: whose it is, and what is in it, stays unsaid.
        fmt::format("this name and secret open nothing at this donor, and region '{}' cannot be made; choose another "
                    "name for this VM",
                    wanted.name)};
  }
  if (slot.client_instance != client_instance) {
    return Refusal{
        wire::Status::kBusy,
        slot.attachments > 0
            ? fmt::format("region '{}' is in use by another process of this VM; stop that one first", wanted.name)
            : fmt::format(
                  "region '{}' is kept for another process of this VM, which lost its connection, for {} s more",
                  wanted.name, (slot.lingers_until_ns - options_.now_ns() + kNsPerSecond - 1) / kNsPerSecond)};
  }
  if (slot.region->pages() * kPageBytes != wanted.region_bytes) {
    return Refusal{wire::Status::kRefused,
                   fmt::format("region '{}' was opened with {} bytes and can't be joined with {} bytes", wanted.name,
                               slot.region->pages() * kPageBytes, wanted.region_bytes)};
  }
  if (wanted.epoch < slot.epoch) {
    return taken_over(wanted.name);
  }
  if (slot.attachments >= kMostAttachments) {
    return Refusal{wire::Status::kResources,
                   fmt::format("region '{}' is open on {} connections already, and no more are for one VM", wanted.name,
                               slot.attachments)};
  }
  uint64_t reserve = pages_to_reserve(wanted);
  uint64_t more = reserve > slot.region->limit() ? reserve - slot.region->limit() : 0;
  if (more > lends_pages_ - table.reserved_pages) return full(table, wanted.name, more);
  table.reserved_pages += more;
  slot.region->raise_limit(more);
  if (slot.attachments++ == 0) event_log().info("region taken up again: name='{}'", slot.name);
  slot.closed = false;
  if (wanted.epoch > slot.epoch) fence(slot, wanted.epoch);
  return Attachment(this, &slot, wanted.epoch);
}

std::variant<std::shared_lock<std::shared_mutex>, Refusal> RegionTable::Attachment::begin_change() const {
  std::shared_lock lock(slot_->changing);
  if (slot_->epoch != epoch_) return taken_over(slot_->name);
  if (writer_ != 0 && slot_->writer != writer_) {
    return Refusal{wire::Status::kRefused, fmt::format("another connection writes to region '{}' now", slot_->name)};
  }
  return lock;
}

// When this returns, nothing that an earlier pager sent changes the region any more.
void RegionTable::fence(Slot& slot, uint64_t epoch) {
  std::unique_lock nobody_changes(slot.changing);
  slot.epoch = epoch;
}

Refusal RegionTable::full(const Table& table, const std::string& name, uint64_t more_pages) const {
  return {
      wire::Status::kFull,
      fmt::format("region '{}' needs {}, but this donor lends {}, of which {} are reserved by {} region(s) and {} are "
                  "free{}; restart it with a larger --size, or name one more donor",
                  name, size_of(more_pages), size_of(lends_pages_), size_of(table.reserved_pages), table.slots.size(),
                  size_of(lends_pages_ - table.reserved_pages), held_text(table))};
}

std::string RegionTable::held_text(const Table& table) const {
  const Usage usage = usage_of(table);
  if (usage.lingering_bytes == 0) return {};
  return fmt::format(" ({} are held for up to {} s more, for {} VM(s) that lost their connection and may come back)",
                     format_size(usage.lingering_bytes), up_to_seconds(usage.lingering_ms), usage.lingering_regions);
}

std::variant<uint64_t, Refusal> RegionTable::reserve(Slot& slot, uint64_t bytes) {
  Region& region = *slot.region;
  const uint64_t wanted = pages_in(std::min(bytes, region.pages() * kPageBytes));
  // Outside of the table's lock, for it may wait; until then too much counts as reserved.
  const uint64_t less = region.lower_limit(wanted);
  return table_.with([&](Table& table) -> std::variant<uint64_t, Refusal> {
    table.reserved_pages -= less;
    const uint64_t limit = region.limit();
    const uint64_t more = wanted > limit ? wanted - limit : 0;
    if (more > lends_pages_ - table.reserved_pages) return full(table, slot.name, more);
    table.reserved_pages += more;
    region.raise_limit(more);
    return region.limit() * kPageBytes;
  });
}

void RegionTable::close(Slot& slot, uint64_t epoch) {
  table_.with([&](Table&) { slot.closed = slot.closed || slot.epoch == epoch; });
}

void RegionTable::detach(Slot* slot) {
  int64_t lingers_until_ns = 0;
  std::unique_ptr<Region> ended = table_.with([&](Table& table) -> std::unique_ptr<Region> {
    if (--slot->attachments != 0) return nullptr;
    // One without a reservation can hold nothing to come back for.
    if (!slot->closed && options_.grace_ns > 0 && slot->region->limit() > 0) {
      lingers_until_ns = slot->lingers_until_ns = options_.now_ns() + options_.grace_ns;
      event_log().info("region lingers: name='{}' held='{}' for='{} s'", slot->name,
                       size_of(slot->region->used_pages()), options_.grace_ns / kNsPerSecond);
      return nullptr;
    }
    auto [first, end] = table.slots.equal_range(slot->name);
    return take_out(table, std::find_if(first, end, [&](const auto& at) { return at.second.get() == slot; }));
  });
  if (lingers_until_ns != 0 && options_.wake_at) options_.wake_at(lingers_until_ns);
  if (ended) bury(std::move(ended));
}

std::unique_ptr<Region> RegionTable::take_out(Table& table, Slots::iterator at) const {
  Slot& slot = *at->second;
  table.reserved_pages -= slot.region->limit();
  event_log().info("region closed: name='{}' held='{}'", slot.name, size_of(slot.region->used_pages()));
  std::unique_ptr<Region> region = std::move(slot.region);
  table.slots.erase(at);
  return region;
}

// The reservation is free before the memory is: unmapping is an order of magnitude faster than any network fills a
// new region, and a VM that restarts must not be told that its own remains fill the donor.
void RegionTable::bury(std::unique_ptr<Region> ended) const {
  if (options_.bury) options_.bury(std::move(ended));
}

void RegionTable::end_lingering() {
  if (options_.grace_ns > 0) end_those_until(options_.now_ns());
}

void RegionTable::end_all_lingering() {
  end_those_until(INT64_MAX);
}

void RegionTable::end_those_until(int64_t until_ns) {
  int64_t next_ns = INT64_MAX;
  std::vector<std::unique_ptr<Region>> ended;
  table_.with([&](Table& table) {
    for (auto at = table.slots.begin(); at != table.slots.end();) {
      auto here = at++;
      const Slot& slot = *here->second;
      if (slot.attachments > 0) continue;
      if (slot.lingers_until_ns <= until_ns) {
        ended.push_back(take_out(table, here));
      } else {
        next_ns = std::min(next_ns, slot.lingers_until_ns);
      }
    }
  });
  for (auto& region : ended) bury(std::move(region));
  if (next_ns != INT64_MAX && options_.wake_at) options_.wake_at(next_ns);
}

RegionTable::Usage RegionTable::usage() const {
  return table_.with([&](const Table& table) { return usage_of(table); });
}

RegionTable::Usage RegionTable::usage_of(const Table& table) const {
  Usage usage{lends_pages_ * kPageBytes, table.reserved_pages * kPageBytes, 0, table.slots.size()};
  int64_t until_ns = 0;
  for (const auto& [name, slot] : table.slots) {
    usage.used_bytes += slot->region->used_pages() * kPageBytes;
    if (slot->attachments > 0) continue;
    ++usage.lingering_regions;
    usage.lingering_bytes += slot->region->limit() * kPageBytes;
    until_ns = std::max(until_ns, slot->lingers_until_ns);
  }
  const int64_t left_ns = until_ns - options_.now_ns();
  if (usage.lingering_regions > 0 && left_ns > 0) {
    usage.lingering_ms = static_cast<uint64_t>((left_ns + kNsPerMs - 1) / kNsPerMs);
  }
  return usage;
}

}  // namespace hecaton::donor
