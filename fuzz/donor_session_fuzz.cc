// A donor's connections, fed with arbitrary bytes. Whatever arrives: nothing asserts, every answer is a well-formed
// reply, no page that is read has bytes that do not match its checksum, and nothing stays behind at the end.
//
// The input is a list of commands: one byte for what to do, then what that needs.
//   even: raw bytes (16 bits of length, the bytes)      odd: a frame with a right header (operation, region, length,
//   body)
// Bits 1-2 of the byte choose the connection, bit 3 repairs the checksums of a write, bits 4-7 how much the peer takes
// before it blocks. So the fuzzer gets past the header without having to find its magic.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "base/log.h"
#include "donor/session.h"
#include "fuzz.h"
#include "wire/frame.h"

using namespace hecaton;
using namespace hecaton::donor;

namespace {

using Bytes = std::vector<std::byte>;

constexpr uint64_t kLends = 64 * kPageBytes;
// The last extent has only a few pages: small enough to be kept in place as a whole, for peers that read by themselves.
constexpr uint64_t kRegionBytes = 4_MiB + 8 * kPageBytes;

// The input, taken from its start; past its end it is zeros.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(fuzz::bytes_of(data, size)) {}
  bool empty() const { return rest_.empty(); }
  uint8_t byte() {
    if (rest_.empty()) return 0;
    uint8_t value = std::to_integer<uint8_t>(rest_.front());
    rest_ = rest_.subspan(1);
    return value;
  }
  Bytes bytes(size_t count) {
    auto part = rest_.first(std::min(count, rest_.size()));
    rest_ = rest_.subspan(part.size());
    return Bytes(part.begin(), part.end());
  }
  size_t length() {
    size_t low = byte();
    return low | static_cast<size_t>(byte()) << 8;
  }

 private:
  std::span<const std::byte> rest_;
};

void check_reply(const wire::FrameHeader& header, std::span<const std::byte> body) {
  HEC_CHECK(header.status != wire::Status::kRequest);
  if (header.status != wire::Status::kOk || header.operation != wire::Operation::kReadPages) return;
  wire::PageSetView set = wire::PageSetView::decode(body).value();
  wire::PageSetCursor pages(set);
  while (auto page = pages.next()) {
    const wire::PageEntry& entry = page->entry;
    if (entry.state != wire::PageState::kPresent) continue;
    HEC_CHECK(wire::page_checksum(page->stored, entry.page, entry.version) == entry.checksum);
  }
}

// Exposes memory to nobody, and sees that it is there for as long as it is exposed.
class FakeExposer final : public MemoryExposer {
 public:
  Result<std::unique_ptr<Exposure>> expose(std::span<std::byte> memory, uint64_t) override {
    return std::unique_ptr<Exposure>(std::make_unique<Exposed>(memory));
  }

 private:
  class Exposed final : public Exposure {
   public:
    explicit Exposed(std::span<std::byte> memory) : memory_(memory) { touch(); }
    ~Exposed() override { touch(); }
    uint32_t key() const override { return 1; }

   private:
    void touch() {
      for (size_t at = 0; at < memory_.size(); at += kPageBytes) sum_ = sum_ + std::to_integer<unsigned>(memory_[at]);
    }
    std::span<std::byte> memory_;
    volatile unsigned sum_ = 0;
  };
};

class Peer final : public ReplySink {
 public:
  explicit Peer(DonorState& donor) : session_(std::in_place, donor, *this, &exposer_) {}
  ~Peer() override {
    room_ = SIZE_MAX;
    while (session_->wants_to_send()) session_->flush();
    check_replies();
    HEC_CHECK(session_->peer_gone() || got_.empty());  // no reply was cut short
  }

  IoResult send(std::span<const iovec> pieces) override {
    size_t taken = 0;
    for (const iovec& piece : pieces) {
      size_t part = std::min(piece.iov_len, room_);
      const std::byte* first = static_cast<const std::byte*>(piece.iov_base);
      got_.insert(got_.end(), first, first + part);
      taken += part;
      room_ -= part;
    }
    return taken == 0 ? IoResult{IoResult::Kind::kWouldBlock, 0} : IoResult{IoResult::Kind::kBytes, taken};
  }

  void say(std::span<const std::byte> bytes, size_t room) {
    room_ = room;
    session_->flush();
    while (!bytes.empty() && session_->wants_to_receive()) {
      auto space = session_->receive_space(scratch_);
      HEC_CHECK(!space.empty());
      size_t part = std::min(space.size(), bytes.size());
      std::memcpy(space.data(), bytes.data(), part);
      session_->received(space.first(part));
      bytes = bytes.subspan(part);
    }
    check_replies();
  }
  bool over() const { return session_->over(); }

 private:
  void check_replies() {
    size_t at = 0;
    while (got_.size() - at >= wire::kHeaderBytes) {
      auto rest = std::span<const std::byte>(got_).subspan(at);
      wire::FrameHeader header = wire::decode_header(rest.first<wire::kHeaderBytes>()).value();
      if (rest.size() < wire::kHeaderBytes + header.body_bytes) break;
      check_reply(header, rest.subspan(wire::kHeaderBytes, header.body_bytes));
      at += wire::kHeaderBytes + header.body_bytes;
    }
    got_.erase(got_.begin(), got_.begin() + static_cast<std::ptrdiff_t>(at));
  }

  FakeExposer exposer_;
  std::array<std::byte, 8192> scratch_;
  Bytes got_;
  size_t room_ = SIZE_MAX;
  std::optional<Session> session_;
};

Bytes frame(wire::Operation operation, uint32_t region, const Bytes& body) {
  Bytes bytes(wire::kHeaderBytes);
  wire::encode_header({operation, wire::Status::kRequest, static_cast<uint32_t>(body.size()), region, 1}, bytes.data());
  bytes.insert(bytes.end(), body.begin(), body.end());
  return bytes;
}

// Gives a write body room for its pages, lengths that are possible, and the checksums that the pages have.
void repair_write(Bytes& body) {
  if (body.size() < 8) return;
  uint32_t pages = std::min<uint32_t>(std::to_integer<uint32_t>(body[0]), 16);
  std::vector<wire::PageEntry> entries(pages);
  body.resize(wire::page_set_head_bytes(pages) + pages * kPageBytes);
  const std::byte* bytes = body.data() + wire::page_set_head_bytes(pages);
  for (uint32_t i = 0; i < pages; ++i) {
    const std::byte* entry = body.data() + wire::page_set_head_bytes(i);
    std::memcpy(&entries[i].page.value, entry, 8);
    std::memcpy(&entries[i].version, entry + 16, 4);
    uint16_t& stored = entries[i].stored_bytes;
    std::memcpy(&stored, entry + 22, 2);
    if (stored == 0 || stored > kPageBytes) stored = kPageBytes;
    entries[i].checksum = wire::page_checksum({bytes, stored}, entries[i].page, entries[i].version);
    bytes += stored;
  }
  body.resize(static_cast<size_t>(bytes - body.data()));
  wire::encode_page_set_head(entries, body.data());
}

Bytes next_message(Input& input, uint8_t command) {
  if (command % 2 == 0) return input.bytes(input.length());
  auto operation = static_cast<wire::Operation>(1 + input.byte() % 9);
  uint32_t region = input.byte();
  Bytes body = input.bytes(input.length());
  if (operation == wire::Operation::kWritePages && (command & 8) != 0) repair_write(body);
  return frame(operation, region, body);
}

// Connections greet each other's donor by themselves: what follows is more interesting.
std::unique_ptr<Peer> greeted_peer(DonorState& donor, size_t which) {
  auto peer = std::make_unique<Peer>(donor);
  if (which == 3) return peer;  // this one must find out itself
  wire::Hello hello{wire::kProtocolVersion, wire::kProtocolVersion, wire::Role::kDemand, which == 2 ? 8u : 7u, "fuzz"};
  peer->say(frame(wire::Operation::kHello, 0, encode(hello)), SIZE_MAX);
  if (which == 2) return peer;  // a stranger
  wire::OpenRegion open{kRegionBytes, 16 * kPageBytes, {}, "vm"};
  peer->say(frame(wire::Operation::kOpenRegion, 0, encode(open)), SIZE_MAX);
  return peer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool quiet = (event_log().set_level(spdlog::level::off), true);
  (void)quiet;
  int64_t now_ns = 0;  // a command takes one; regions that nobody closed stay for five
  DonorState donor(kLends, 100, {.grace_ns = 5, .now_ns = [&now_ns] { return now_ns; }});
  {
    std::array<std::unique_ptr<Peer>, 4> peers;
    for (size_t i = 0; i < peers.size(); ++i) peers[i] = greeted_peer(donor, i);
    Input input(data, size);
    while (!input.empty()) {
      uint8_t command = input.byte();
      ++now_ns;
      size_t which = (command >> 1) & 3;
      size_t room = (command >> 4) == 0 ? SIZE_MAX : static_cast<size_t>((command >> 4) - 1) * 1500;
      peers[which]->say(next_message(input, command), room);
      if (peers[which]->over()) {
        peers[which].reset();
        peers[which] = greeted_peer(donor, which);
      }
      RegionTable::Usage usage = donor.regions.usage();
      HEC_CHECK(usage.reserved_bytes <= kLends && usage.used_bytes <= usage.reserved_bytes);
    }
  }
  HEC_CHECK(donor.connections == 0);
  donor.regions.end_all_lingering();
  RegionTable::Usage left = donor.regions.usage();
  HEC_CHECK(left.regions == 0 && left.reserved_bytes == 0 && left.used_bytes == 0);
  return 0;
}
