// What an RDMA connection adds to the frames of frame.h. Encoding and decoding only.
//
// The frames travel as on TCP, as one stream of bytes in each direction. Each side lends the other a ring of its memory
// and offers it when they connect; the other writes stream bytes into it, one behind the other, by RDMA writes with an
// immediate, which tells how many bytes have arrived or, in the other direction, how many messages have been read out.
//
//   client                                          donor
//     connect (ring offer) ────────────────────────▶
//     ◀──────────────────────── accept (ring offer)
//     frames, as writes with immediate ◀───────────▶
//     map extent ──────────────────────────────────▶        from now on its memory stays where it is
//     ◀─────────────── keys of its pages and records
//     RDMA reads of records and pages                       without the donor's processor
//
// A key is good for one connection, for reading, and for the one extent. Addresses are not the donor's: a page lies at
// its offset in the region, its record at its number times the size of a record.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/units.h"

namespace hecaton::wire {

inline constexpr uint16_t kRdmaVersion = 1;
inline constexpr size_t kRingOfferBytes = 32;
inline constexpr uint32_t kLeastRingBytes = 64 * 1024;
inline constexpr uint32_t kMostRingBytes = 1024 * 1024;
inline constexpr uint32_t kLeastRingMessages = 64;
inline constexpr uint32_t kMostRingMessages = 4096;

struct RingOffer {
  uint64_t address = 0;
  uint32_t key = 0;
  uint32_t bytes = 0;
  uint32_t messages = 0;  // on their way or unread, at most
};
void encode(const RingOffer& offer, std::span<std::byte, kRingOfferBytes> out);
// `bytes` may be longer: connection managers pad what they carry.
Result<RingOffer> decode_ring_offer(std::span<const std::byte> bytes);

// The immediate of a write into a ring.
struct RingNote {
  enum class Kind : uint8_t { kArrived, kRead };
  Kind kind = Kind::kArrived;
  uint32_t count = 0;  // of bytes or of messages; at least 1
};
uint32_t encode_ring_note(RingNote note);
Result<RingNote> decode_ring_note(uint32_t immediate);

// A page's record, as it lies in a donor's memory.
struct PageRecord {
  uint64_t checksum;
  uint32_t version;
  uint32_t stored_bytes;  // see PageEntry; 0, or more than a page: there is none
};
static_assert(sizeof(PageRecord) == 16);

constexpr uint64_t page_address(PageNumber page) {
  return page.value * kPageBytes;
}
constexpr uint64_t record_address(PageNumber page) {
  return page.value * sizeof(PageRecord);
}

inline constexpr size_t kMapExtentBytes = 8;
std::array<std::byte, kMapExtentBytes> encode_map_extent(ExtentNumber extent);
Result<ExtentNumber> decode_map_extent(std::span<const std::byte> body);

struct ExtentKeys {
  ExtentNumber extent;
  uint32_t pages_key = 0;
  uint32_t records_key = 0;
};
inline constexpr size_t kExtentKeysBytes = 16;
std::array<std::byte, kExtentKeysBytes> encode(const ExtentKeys& keys);
Result<ExtentKeys> decode_extent_keys(std::span<const std::byte> body);

}  // namespace hecaton::wire
