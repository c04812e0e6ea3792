#include "store/direct_reads.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace hecaton {
namespace {

size_t pages_for_head(uint32_t pages) {
  return pages_in(wire::page_set_head_bytes(pages));
}

size_t pages_for_records() {
  return pages_in(kPagesPerExtent * sizeof(wire::PageRecord));
}

}  // namespace

ExtentKeyTable::ExtentKeyTable(uint64_t extents)
    : capacity_(extents), entries_(std::bit_ceil(std::max<uint64_t>(2 * extents, 2))) {}

size_t ExtentKeyTable::place_of(ExtentNumber extent) const {
  size_t place = (extent.value * 0x9e3779b97f4a7c15ull >> 32) & (entries_.size() - 1);
  while (entries_[place].extent_and_one != 0 && entries_[place].extent_and_one != extent.value + 1) {
    place = (place + 1) & (entries_.size() - 1);
  }
  return place;
}

ExtentKeyTable::Entry* ExtentKeyTable::find(ExtentNumber extent) {
  Entry& entry = entries_[place_of(extent)];
  return entry.extent_and_one == 0 ? nullptr : &entry;
}

ExtentKeyTable::Entry* ExtentKeyTable::add(ExtentNumber extent) {
  if (used_ == capacity_) return nullptr;
  Entry& entry = entries_[place_of(extent)];
  if (entry.extent_and_one == 0) ++used_;
  entry.extent_and_one = static_cast<uint32_t>(extent.value + 1);
  return &entry;
}

std::optional<DirectReads::Shape> DirectReads::shape_for(wire::Role role) {
  switch (role) {
    case wire::Role::kDemand:
      return Shape{256, 1};
    case wire::Role::kPrefetch:
      return Shape{16, 64};
    case wire::Role::kWriteBack:
    case wire::Role::kControl:
      return std::nullopt;
  }
  return std::nullopt;
}

size_t DirectReads::slot_bytes(Shape shape) {
  return (pages_for_head(shape.pages_per_slot) + shape.pages_per_slot + pages_for_records()) * kPageBytes;
}

Result<std::unique_ptr<DirectReads>> DirectReads::create(DirectReader& reader, Shape shape, uint64_t extents) {
  HEC_CHECK(shape.slots <= DirectReader::kMaxTags);
  std::span<std::byte> memory = HEC_TRY(reader.local_memory(shape.slots * slot_bytes(shape)));
  return std::unique_ptr<DirectReads>(new DirectReads(reader, shape, extents, memory));
}

DirectReads::DirectReads(DirectReader& reader, Shape shape, uint64_t extents, std::span<std::byte> memory)
    : reader_(reader),
      shape_(shape),
      head_(pages_for_head(shape.pages_per_slot)),
      keys_(extents),
      memory_(memory),
      slots_(shape.slots) {
  for (Slot& slot : slots_) slot.pages.reserve(shape.pages_per_slot);
  free_.reserve(shape.slots);
  for (uint32_t i = shape.slots; i > 0; --i) free_.push_back(i - 1);
  entries_.reserve(shape.pages_per_slot);
}

bool DirectReads::try_read(uint64_t request_id, std::span<const PageNumber> pages) {
  if (pages.empty() || pages.size() > shape_.pages_per_slot || free_.empty()) return false;
  const ExtentNumber extent = extent_of(pages.front());
  const ExtentKeyTable::Entry* keys = keys_.find(extent);
  if (!keys || keys->state != ExtentKeyTable::State::kMapped) return false;
  for (size_t i = 0; i < pages.size(); ++i) {
    if (extent_of(pages[i]) != extent || (i > 0 && pages[i] <= pages[i - 1])) return false;
  }
  const uint32_t index = free_.back();
  std::array<DirectReader::Piece, DirectReader::kMaxPieces> pieces;
  const size_t count = plan(index, *keys, pages, pieces);
  if (count == 0 || !reader_.read(index, std::span(pieces.data(), count))) return false;
  free_.pop_back();
  Slot& slot = slots_[index];
  slot.request_id = request_id;
  slot.pages.assign(pages.begin(), pages.end());
  return true;
}

// All records from the first to the last page's in one piece, and a piece for each run of neighbours. The pages land
// where the body has them if all are present. 0: too many runs.
size_t DirectReads::plan(uint32_t slot, const ExtentKeyTable::Entry& keys, std::span<const PageNumber> pages,
                         std::span<DirectReader::Piece> pieces) const {
  const uint64_t spanned = pages.back() - pages.front() + 1;
  pieces[0] = {wire::record_address(pages.front()), keys.records_key, records_of(slot),
               static_cast<uint32_t>(spanned * sizeof(wire::PageRecord))};
  size_t used = 1;
  for (size_t i = 0; i < pages.size(); ++i) {
    if (i > 0 && pages[i] == pages[i - 1] + 1) {
      pieces[used - 1].bytes += kPageBytes;
      continue;
    }
    if (used == pieces.size()) return 0;
    pieces[used++] = {wire::page_address(pages[i]), keys.pages_key, pages_of(slot) + i * kPageBytes, kPageBytes};
  }
  return used;
}

bool DirectReads::should_map(ExtentNumber extent) {
  if (keys_.find(extent)) return false;
  return keys_.add(extent) != nullptr;
}

Result<void> DirectReads::on_map_reply(wire::Status status, std::span<const std::byte> body) {
  if (status != wire::Status::kOk) return {};  // it stays asked, and is not asked again
  wire::ExtentKeys keys = HEC_TRY(wire::decode_extent_keys(body));
  ExtentKeyTable::Entry* entry = keys_.find(keys.extent);
  if (!entry || entry->state != ExtentKeyTable::State::kAsked) {
    return Error{ErrorCode::kProtocol, 0, "the donor mapped an extent that it was not asked to"};
  }
  entry->state = ExtentKeyTable::State::kMapped;
  entry->pages_key = keys.pages_key;
  entry->records_key = keys.records_key;
  return {};
}

std::optional<DirectReads::Done> DirectReads::next_done() {
  if (given_) free_.push_back(*given_);
  given_ = reader_.next_done();
  if (!given_) return std::nullopt;
  return Done{slots_[*given_].request_id, make_body(*given_)};
}

std::span<const std::byte> DirectReads::make_body(uint32_t index) {
  const Slot& slot = slots_[index];
  entries_.clear();
  std::byte* const bytes = pages_of(index);
  size_t stored = 0;
  for (size_t i = 0; i < slot.pages.size(); ++i) {
    const PageNumber page = slot.pages[i];
    wire::PageRecord record;
    std::memcpy(&record, records_of(index) + (page - slot.pages.front()) * sizeof record, sizeof record);
    if (record.stored_bytes == 0 || record.stored_bytes > kPageBytes) {
      entries_.push_back({page, 0, 0, wire::PageState::kAbsent});
      continue;
    }
    entries_.push_back(
        {page, record.checksum, record.version, wire::PageState::kPresent, static_cast<uint16_t>(record.stored_bytes)});
    // A body has no gaps: neither absent pages nor what a slot has beyond the stored bytes.
    if (stored < i * kPageBytes) std::memmove(bytes + stored, bytes + i * kPageBytes, record.stored_bytes);
    stored += record.stored_bytes;
  }
  const size_t head = wire::page_set_head_bytes(entries_.size());
  std::byte* body = bytes - head;
  wire::encode_page_set_head(entries_, body);
  return {body, head + stored};
}

}  // namespace hecaton
