// What the nodes of an aggregate VM say to each other about pages: docs/coherence.md draws who says what to whom, and
// src/coherence decides it. Encoding and decoding only.
//
// A message is a header of 32 bytes, little-endian, and the page's 4096 bytes behind it if it carries them:
//
//    0  u8   kind                 4  u32  version          16  u64  await: a bit for each node
//    1  u8   flags                8  u64  page             24  u64  checksum of the page, 0 if none is carried
//    2  u8   requester
//    3  u8   0
//
// What a kind has no use for is zero, and a header in which it is not does not decode. Messages of two nodes about one
// page arrive in the order in which they were sent; nothing else is promised, and no other order is relied upon.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/node_id.h"
#include "base/result.h"
#include "base/units.h"

namespace hecaton::wire {

inline constexpr size_t kCoherenceHeaderBytes = 32;

enum class CoherenceKind : uint8_t {
  // To the page's home.
  kRead = 1,   // I want to read it
  kWrite = 2,  // I want to write it; whether I have a copy, the home knows better
  kDone = 3,   // I have what you let me have
  // From the home.
  kFetchShared = 4,     // send the requester a copy, and keep yours, for reading
  kFetchExclusive = 5,  // send the requester the page, and keep nothing
  kInvalidate = 6,      // forget your copy, and tell the requester
  kUpgrade = 7,         // your copy is the page, once `await` have told you
  kLost = 8,            // its newest bytes are gone
  // From who had it to who wants it.
  kShared = 9,      // a copy for reading
  kExclusive = 10,  // the page; for writing once `await` have told you
  kForgotten = 11,  // I have no copy any more
};
inline constexpr CoherenceKind kLastCoherenceKind = CoherenceKind::kForgotten;
const char* name_of(CoherenceKind kind);

struct CoherenceMessage {
  CoherenceKind kind = CoherenceKind::kRead;
  bool carries_page = false;  // of kShared and kExclusive; without, the page is all zeros
  bool to_read =
      false;  // of kFetchExclusive and kExclusive: it was asked for to be read, and is expected to be written
  bool unwritten = false;  // of kShared, kExclusive and kDone: who gave it had not written it
  NodeId requester;        // of what the home sends, kUpgrade and kLost aside. Within a node, of kDone: who is
  uint32_t version = 0;    // of the page: how often it went to a new owner
  PageNumber page;
  NodeSet await;  // of kFetchExclusive, kExclusive and kUpgrade

  constexpr bool operator==(const CoherenceMessage&) const = default;
};

// `checksum`: of the page that follows, as page_checksum() makes it; 0 if none does.
void encode(const CoherenceMessage& message, uint64_t checksum, std::span<std::byte, kCoherenceHeaderBytes> out);

struct CoherenceHeader {
  CoherenceMessage message;
  uint64_t checksum = 0;
};
// Error: an unknown kind or flag, a node or page number that cannot be, or something where zero belongs.
Result<CoherenceHeader> decode_coherence(std::span<const std::byte> bytes);

}  // namespace hecaton::wire
