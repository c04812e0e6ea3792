// Reads of pages from a donor's memory without its processor (RDMA), beside a connection that can do them.
//
// The first read of an extent is an ordinary one, and the donor is asked to map the extent; its keys come some time
// later. Reads of mapped extents are made here: the records and the bytes land in a slot, which then looks like the
// body of the donor's own read reply, and is checked by the same code. What is not possible here (not mapped, not
// allowed, no slot free) is asked of the donor: the caller need not know why.
//
// Threads: the connection's. Allocates nothing after create().
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "transport/direct_memory.h"
#include "wire/frame.h"
#include "wire/rdma.h"

namespace hecaton {

// The keys of the extents that were mapped, by extent. Of a fixed capacity: beyond it, extents stay unmapped.
class ExtentKeyTable {
 public:
  enum class State : uint8_t { kAsked, kMapped };
  struct Entry {
    uint32_t extent_and_one = 0;  // 0: empty
    State state = State::kAsked;
    uint32_t pages_key = 0, records_key = 0;
  };

  explicit ExtentKeyTable(uint64_t extents);
  // Null if it is not there.
  Entry* find(ExtentNumber extent);
  // A new entry, or null if the table is full.
  Entry* add(ExtentNumber extent);

 private:
  size_t place_of(ExtentNumber extent) const;
  const uint64_t capacity_;
  uint64_t used_ = 0;
  std::vector<Entry> entries_;  // open addressing, at most half full
};

class DirectReads {
 public:
  struct Shape {
    uint32_t slots;           // reads under way at once
    uint32_t pages_per_slot;  // larger reads are asked of the donor
  };
  static std::optional<Shape> shape_for(wire::Role role);

  // `extents`: how many of the region this donor may come to hold. `reader` must outlive it.
  static Result<std::unique_ptr<DirectReads>> create(DirectReader& reader, Shape shape, uint64_t extents);

  // False: ask the donor.
  bool try_read(uint64_t request_id, std::span<const PageNumber> pages);
  // After an ordinary read: whether the donor should be asked to map the extent now. True once for each.
  bool should_map(ExtentNumber extent);
  // The donor's answer to that.
  Result<void> on_map_reply(wire::Status status, std::span<const std::byte> body);

  // A read that is done: its request, and a body like that of a read reply, valid until the next call.
  struct Done {
    uint64_t request_id;
    std::span<const std::byte> body;
  };
  std::optional<Done> next_done();

 private:
  struct Slot {
    uint64_t request_id = 0;
    std::vector<PageNumber> pages;  // of one extent, ascending
  };
  DirectReads(DirectReader& reader, Shape shape, uint64_t extents, std::span<std::byte> memory);
  static size_t slot_bytes(Shape shape);
  std::byte* pages_of(uint32_t slot) const { return memory_.data() + slot * slot_bytes(shape_) + kPageBytes * head_; }
  std::byte* records_of(uint32_t slot) const { return pages_of(slot) + shape_.pages_per_slot * kPageBytes; }
  size_t plan(uint32_t slot, const ExtentKeyTable::Entry& keys, std::span<const PageNumber> pages,
              std::span<DirectReader::Piece> pieces) const;
  std::span<const std::byte> make_body(uint32_t slot);

  DirectReader& reader_;
  const Shape shape_;
  const size_t head_;  // pages of a slot before its pages: room for the head of the body
  ExtentKeyTable keys_;
  std::span<std::byte> memory_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  std::optional<uint32_t> given_;  // its body is in the caller's hands
  std::vector<wire::PageEntry> entries_;
};

}  // namespace hecaton
