#include "donor/region_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace hecaton::donor {
namespace {

using Secret = std::array<std::byte, wire::kSecretBytes>;

// In a time that does not tell how much of a guess was right.
bool same_secret(const Secret& a, const Secret& b) {
  volatile unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference = difference | std::to_integer<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

uint64_t pages_to_reserve(const wire::OpenRegion& wanted) {
  return pages_in(std::min(wanted.reserve_bytes, wanted.region_bytes));
}

}  // namespace

std::variant<RegionTable::Attachment, Refusal> RegionTable::open(const wire::OpenRegion& wanted,
                                                                 uint64_t client_instance) {
  return table_.with([&](Table& table) {
    auto found = table.slots.find(wanted.name);
    if (found == table.slots.end()) return create(table, wanted, client_instance);
    return join(table, *found->second, wanted, client_instance);
  });
}

std::variant<RegionTable::Attachment, Refusal> RegionTable::create(Table& table, const wire::OpenRegion& wanted,
                                                                   uint64_t client_instance) {
  uint64_t reserve = pages_to_reserve(wanted);
  if (reserve > lends_pages_ - table.reserved_pages) return full(table, wanted, reserve);
  Result<std::unique_ptr<Region>> region = Region::create(wanted.region_bytes);
  if (!region.ok()) {
    return Refusal{
        wire::Status::kResources,
        fmt::format("the donor's machine gave no address space for the {} of region '{}' ({}); see 'ulimit -v' "
                    "and vm.overcommit_memory there",
                    format_size(wanted.region_bytes), wanted.name, region.error().describe())};
  }
  auto slot = std::make_unique<Slot>(Slot{wanted.name, wanted.secret, client_instance, std::move(region).value()});
  slot->region->set_limit(reserve);
  slot->attachments = 1;
  Slot* kept = slot.get();
  table.slots.emplace(wanted.name, std::move(slot));
  table.reserved_pages += reserve;
  event_log().info("region opened: name='{}' size='{}' reserved='{}'", wanted.name, format_size(wanted.region_bytes),
                   format_size(reserve * kPageBytes));
  return Attachment(this, kept);
}

std::variant<RegionTable::Attachment, Refusal> RegionTable::join(Table& table, Slot& slot,
                                                                 const wire::OpenRegion& wanted,
                                                                 uint64_t client_instance) {
  if (!same_secret(slot.secret, wanted.secret)) {
    return Refusal{
        wire::Status::kRefused,
        fmt::format("region '{}' belongs to another VM on this donor (its secret differs); choose another name "
                    "for this VM",
                    wanted.name)};
  }
  if (slot.client_instance != client_instance) {
    return Refusal{
        wire::Status::kBusy,
        fmt::format("region '{}' is in use by another process of this VM; stop that one first", wanted.name)};
  }
  if (slot.region->pages() * kPageBytes != wanted.region_bytes) {
    return Refusal{wire::Status::kRefused,
                   fmt::format("region '{}' was opened with {} bytes and can't be joined with {} bytes", wanted.name,
                               slot.region->pages() * kPageBytes, wanted.region_bytes)};
  }
  uint64_t reserve = pages_to_reserve(wanted);
  uint64_t more = reserve > slot.region->limit() ? reserve - slot.region->limit() : 0;
  if (more > lends_pages_ - table.reserved_pages) return full(table, wanted, more);
  table.reserved_pages += more;
  slot.region->set_limit(slot.region->limit() + more);
  ++slot.attachments;
  return Attachment(this, &slot);
}

Refusal RegionTable::full(const Table& table, const wire::OpenRegion& wanted, uint64_t more_pages) const {
  auto size_of = [](uint64_t pages) { return format_size(pages * kPageBytes); };
  return {
      wire::Status::kFull,
      fmt::format("region '{}' needs {}, but this donor lends {}, of which {} are reserved by {} region(s) and {} are "
                  "free; restart it with a larger --size, or name one more donor",
                  wanted.name, size_of(more_pages), size_of(lends_pages_), size_of(table.reserved_pages),
                  table.slots.size(), size_of(lends_pages_ - table.reserved_pages))};
}

void RegionTable::detach(Slot* slot) {
  std::unique_ptr<Region> ended = table_.with([&](Table& table) -> std::unique_ptr<Region> {
    if (--slot->attachments != 0) return nullptr;
    table.reserved_pages -= slot->region->limit();
    event_log().info("region closed: name='{}' held='{}'", slot->name,
                     format_size(slot->region->used_pages() * kPageBytes));
    std::unique_ptr<Region> region = std::move(slot->region);
    table.slots.erase(table.slots.find(slot->name));
    return region;
  });
  // The reservation is free before the memory is: unmapping is an order of magnitude faster than any network fills a
  // new region, and a VM that restarts must not be told that its own remains fill the donor.
  if (ended && bury_) bury_(std::move(ended));
}

RegionTable::Usage RegionTable::usage() const {
  return table_.with([&](const Table& table) {
    uint64_t used = 0;
    for (const auto& [name, slot] : table.slots) used += slot->region->used_pages();
    return Usage{lends_pages_ * kPageBytes, table.reserved_pages * kPageBytes, used * kPageBytes, table.slots.size()};
  });
}

}  // namespace hecaton::donor
