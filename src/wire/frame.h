// The frames between a pager and a donor: what is on the wire, byte for byte. Encoding and decoding only: no I/O.
//
// All numbers are little-endian. A frame is a 24-byte header and a body of body_bytes. Zero is never a valid operation,
// status, role or page state. Every length is checked before it is used; a frame that does not decode costs its
// connection, nothing else (invariant 7).
//
//   client                                   donor
//     hello ─────────────────────────────────▶          first frame of every connection
//     ◀───────────────────────────── hello reply        version, instance, free bytes
//     open region ───────────────────────────▶          name, secret, size, reservation
//     ◀────────────────── open reply (handle, id)
//     read / write / discard / reserve / stat ▶         any number in flight; replies in order of the requests
//     ◀─────────────────── reply, or error + text
//     close region ──────────────────────────▶          the VM needs it no more: freed with its last connection
//     or only the end of the connection                  after the last: kept for a while, for a client that comes back
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace hecaton::wire {

inline constexpr uint32_t kMagic = 0x4e434548;  // "HECN"
inline constexpr uint8_t kProtocolVersion = 3;
inline constexpr size_t kHeaderBytes = 24;
inline constexpr size_t kMaxPagesPerFrame = kPagesPerExtent;
inline constexpr size_t kPageEntryBytes = 24;
inline constexpr size_t kMaxTextBytes = 512;
inline constexpr size_t kMaxNameBytes = 128;
inline constexpr size_t kSecretBytes = 32;
inline constexpr size_t kMaxDiscardRuns = 1024;
// The largest body any operation may have: a full read reply or write.
inline constexpr size_t kMaxBodyBytes = 8 + kMaxPagesPerFrame * (kPageEntryBytes + kPageBytes);
// No region is larger; keeps a hostile open from claiming a donor's address space.
inline constexpr uint64_t kMaxRegionBytes = uint64_t{1} << 44;

enum class Operation : uint8_t {
  kHello = 1,
  kOpenRegion = 2,
  kReadPages = 3,
  kWritePages = 4,
  kDiscard = 5,
  kStat = 6,
  kCloseRegion = 7,
  kMapExtent = 8,  // over RDMA: see rdma.h
  kReserve = 9,
};

enum class Status : uint16_t {
  kRequest = 1,     // not a reply
  kOk = 2,          //
  kMalformed = 3,   // the donor closes the connection after this
  kVersion = 4,     // no protocol version in common
  kRefused = 5,     // not allowed: wrong secret, or hello missing
  kFull = 6,        // the donor's --size or the region's reservation does not allow it
  kBusy = 7,        // another instance of the VM has the region open
  kNoRegion = 8,    // no such region handle on this connection
  kOutOfRange = 9,  // a page beyond the region
  kResources = 10,  // the donor's machine gave no memory
};
const char* name_of(Status status);

// What a connection is for; a donor may schedule by it.
enum class Role : uint32_t { kDemand = 1, kPrefetch = 2, kWriteBack = 3, kControl = 4 };

struct FrameHeader {
  Operation operation = Operation::kHello;
  Status status = Status::kRequest;
  uint32_t body_bytes = 0;
  uint32_t region = 0;  // handle from the open reply; 0 where there is none
  uint64_t request_id = 0;
};

// Writes kHeaderBytes to `out`.
void encode_header(const FrameHeader& header, std::byte* out);
// Error: wrong magic, version, operation, status or an impossible length.
Result<FrameHeader> decode_header(std::span<const std::byte, kHeaderBytes> bytes);

struct Hello {
  uint16_t min_version = kProtocolVersion;
  uint16_t max_version = kProtocolVersion;
  Role role = Role::kControl;
  uint64_t client_instance = 0;  // random, the same on all connections of one pager
  std::string software;          // version of the sender, for messages
};
struct HelloReply {
  uint16_t version = kProtocolVersion;
  uint64_t donor_instance = 0;  // random at each start of a donor: a new one holds nothing
  uint64_t lends_bytes = 0;
  uint64_t free_bytes = 0;  // not reserved by any region
  std::string software;
};
struct OpenRegion {
  uint64_t region_bytes = 0;   // a multiple of kPageBytes, at most kMaxRegionBytes
  uint64_t reserve_bytes = 0;  // what the donor must be able to hold for it
  std::array<std::byte, kSecretBytes> secret{};
  std::string name;    // of the VM
  uint64_t epoch = 1;  // of the pager, from 1 on: once a later one has opened the region, earlier ones change nothing
};
struct OpenReply {
  uint64_t region_id = 0;  // random: one that is made anew under the same name has another, and holds nothing
};
struct StatReply {
  uint64_t donor_instance = 0, lends_bytes = 0, used_bytes = 0, reserved_bytes = 0;
  uint64_t regions = 0, connections = 0;
  // Of them, those whose VM lost all of its connections and may come back: their reservations, and how long until the
  // last of them is freed.
  uint64_t lingering_regions = 0, lingering_bytes = 0, lingering_ms = 0;
};

enum class PageState : uint16_t { kPresent = 1, kAbsent = 2 };

// A page on the wire, described.
struct PageEntry {
  PageNumber page;
  uint64_t checksum = 0;
  uint32_t version = 0;
  PageState state = PageState::kPresent;
  // How many bytes stand for a present page: kPageBytes, the page itself; fewer, one LZ4 block that the host made and
  // the donor keeps as it came. An absent page has none, whatever is said here.
  uint16_t stored_bytes = kPageBytes;
};

std::vector<std::byte> encode(const Hello& hello);
std::vector<std::byte> encode(const HelloReply& reply);
std::vector<std::byte> encode(const OpenRegion& open);
std::vector<std::byte> encode(const OpenReply& reply);
std::vector<std::byte> encode(const StatReply& reply);
Result<Hello> decode_hello(std::span<const std::byte> body);
Result<HelloReply> decode_hello_reply(std::span<const std::byte> body);
Result<OpenRegion> decode_open_region(std::span<const std::byte> body);
Result<OpenReply> decode_open_reply(std::span<const std::byte> body);
Result<StatReply> decode_stat_reply(std::span<const std::byte> body);

// Read request: how many bytes, and into a buffer of that size (no allocation: fault path).
constexpr size_t read_request_bytes(size_t pages) {
  return 8 + 8 * pages;
}
void encode_read_request(std::span<const PageNumber> pages, std::byte* out);
// A view of a decoded page list; valid as long as the body is.
class PageListView {
 public:
  static Result<PageListView> decode(std::span<const std::byte> body);
  size_t size() const { return count_; }
  PageNumber operator[](size_t i) const;

 private:
  PageListView(const std::byte* first, size_t count) : first_(first), count_(count) {}
  const std::byte* first_;
  size_t count_;
};

// Pages with their entries: the body of a read reply and of a write. Entries first, then the stored bytes of those
// present, without gaps.
constexpr size_t page_set_head_bytes(size_t pages) {
  return 8 + kPageEntryBytes * pages;
}
void encode_page_set_head(std::span<const PageEntry> entries, std::byte* out);
// The same piece by piece: the count, and each entry at its place in the head.
void encode_page_set_count(size_t pages, std::byte* head);
void encode_page_set_entry(const PageEntry& entry, size_t i, std::byte* head);
class PageSetView {
 public:
  static Result<PageSetView> decode(std::span<const std::byte> body);
  size_t size() const { return count_; }
  PageEntry entry(size_t i) const;
  size_t present() const { return present_; }
  // Whether some page is shorter than a page.
  bool any_packed() const { return bytes_ < present_ * kPageBytes; }
  // The stored bytes of entry `i`; none if it is absent. Walks all entries before it: for many, take a PageSetCursor.
  std::span<const std::byte> stored(size_t i) const;

 private:
  friend class PageSetCursor;
  PageSetView(const std::byte* head, size_t count, const std::byte* pages)
      : head_(head), count_(count), pages_(pages) {}
  const std::byte* head_;
  size_t count_;
  const std::byte* pages_;
  size_t present_ = 0;
  size_t bytes_ = 0;  // from pages_ on
};

// Goes over the entries of a page set in their order, and over the stored bytes with them.
class PageSetCursor {
 public:
  explicit PageSetCursor(const PageSetView& set) : set_(set), bytes_(set.pages_) {}
  struct Page {
    PageEntry entry;
    std::span<const std::byte> stored;  // empty if absent
  };
  std::optional<Page> next();

 private:
  PageSetView set_;
  size_t next_ = 0;
  const std::byte* bytes_;
};

// Write reply: the pages whose bytes did not match their checksum, and were not taken.
std::vector<std::byte> encode_write_reply(std::span<const PageNumber> rejected);
inline Result<PageListView> decode_write_reply(std::span<const std::byte> body) {
  return PageListView::decode(body);
}

// Reserve request: what the region's reservation shall be, up or down. Its reply: what it is, which is more than was
// asked for if the region holds more.
inline constexpr size_t kReserveBytes = 8;
std::array<std::byte, kReserveBytes> encode_reserve(uint64_t reserve_bytes);
Result<uint64_t> decode_reserve(std::span<const std::byte> body);

std::vector<std::byte> encode_discard(std::span<const PageRun> runs);
Result<std::vector<PageRun>> decode_discard(std::span<const std::byte> body);

// The text of an error reply: printable ASCII, at most kMaxTextBytes; anything else is replaced by '?'.
std::string decode_text(std::span<const std::byte> body);

// Checksum of a page's stored bytes, bound to its place and version, so that bytes of another page or an older version
// never pass.
uint64_t page_checksum(std::span<const std::byte> stored, PageNumber page, uint32_t version);
inline std::span<const std::byte> whole_page(const std::byte* bytes) {
  return {bytes, kPageBytes};
}

}  // namespace hecaton::wire
