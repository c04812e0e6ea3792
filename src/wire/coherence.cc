#include "wire/coherence.h"

#include "wire/codec.h"
#include "wire/frame.h"

namespace hecaton::wire {
namespace {

constexpr uint8_t kCarriesPage = 1;
constexpr uint8_t kToRead = 2;
constexpr uint8_t kUnwritten = 4;

// Which fields a kind has; all others are zero.
struct Shape {
  const char* name;
  uint8_t flags;
  bool requester, version, await;
};

constexpr Shape shape_of(CoherenceKind kind) {
  switch (kind) {
    case CoherenceKind::kRead:
      return {"read", 0, false, false, false};
    case CoherenceKind::kWrite:
      return {"write", 0, false, false, false};
    case CoherenceKind::kDone:
      return {"done", kUnwritten, false, true, false};
    case CoherenceKind::kFetchShared:
      return {"fetch shared", 0, true, true, false};
    case CoherenceKind::kFetchExclusive:
      return {"fetch exclusive", kToRead, true, true, true};
    case CoherenceKind::kInvalidate:
      return {"invalidate", 0, true, true, false};
    case CoherenceKind::kUpgrade:
      return {"upgrade", 0, false, true, true};
    case CoherenceKind::kLost:
      return {"lost", 0, false, true, false};
    case CoherenceKind::kShared:
      return {"shared", kCarriesPage | kUnwritten, false, true, false};
    case CoherenceKind::kExclusive:
      return {"exclusive", kCarriesPage | kToRead | kUnwritten, false, true, true};
    case CoherenceKind::kForgotten:
      return {"forgotten", 0, false, true, false};
  }
  return {"unknown message", 0, false, false, false};
}

Error malformed(const char* what) {
  return Error{ErrorCode::kProtocol, 0, what};
}

}  // namespace

const char* name_of(CoherenceKind kind) {
  return shape_of(kind).name;
}

void encode(const CoherenceMessage& message, uint64_t checksum, std::span<std::byte, kCoherenceHeaderBytes> out) {
  const Shape shape = shape_of(message.kind);
  const int flags = (message.carries_page ? kCarriesPage : 0) | (message.to_read ? kToRead : 0) |
                    (message.unwritten ? kUnwritten : 0);
  Writer writer(out);
  writer.put<uint8_t>(static_cast<uint8_t>(message.kind));
  writer.put<uint8_t>(static_cast<uint8_t>(flags & shape.flags));
  writer.put<uint8_t>(shape.requester ? message.requester.value : 0);
  writer.put<uint8_t>(0);
  writer.put<uint32_t>(shape.version ? message.version : 0);
  writer.put<uint64_t>(message.page.value);
  writer.put<uint64_t>(shape.await ? message.await.bits() : 0);
  writer.put<uint64_t>(message.carries_page ? checksum : 0);
}

Result<CoherenceHeader> decode_coherence(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  const uint8_t kind = reader.get<uint8_t>();
  const uint8_t flags = reader.get<uint8_t>();
  const uint8_t requester = reader.get<uint8_t>();
  const uint8_t zero = reader.get<uint8_t>();
  CoherenceHeader header;
  CoherenceMessage& message = header.message;
  message.version = reader.get<uint32_t>();
  message.page = PageNumber(reader.get<uint64_t>());
  message.await = NodeSet(reader.get<uint64_t>());
  header.checksum = reader.get<uint64_t>();
  if (!reader.finished()) return malformed("a coherence message has the wrong length");
  if (kind < 1 || kind > static_cast<uint8_t>(kLastCoherenceKind)) return malformed("an unknown coherence message");
  message.kind = static_cast<CoherenceKind>(kind);
  const Shape shape = shape_of(message.kind);
  if ((flags & ~shape.flags) != 0) return malformed("a coherence message has a flag that is not its own");
  if (requester >= kMostNodes) return malformed("a coherence message names an impossible node");
  if (message.page.value >= kMaxRegionBytes / kPageBytes)
    return malformed("a coherence message names an impossible page");
  message.requester = NodeId(requester);
  message.carries_page = (flags & kCarriesPage) != 0;
  message.to_read = (flags & kToRead) != 0;
  message.unwritten = (flags & kUnwritten) != 0;
  if (zero != 0 || (!shape.requester && requester != 0) || (!shape.version && message.version != 0) ||
      (!shape.await && !message.await.empty()) || (!message.carries_page && header.checksum != 0)) {
    return malformed("a coherence message has something where nothing belongs");
  }
  return header;
}

}  // namespace hecaton::wire
