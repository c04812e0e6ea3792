// What a donor answers: one request in, one reply out, for one connection. Knows which regions the connection has open;
// knows nothing of bytes that are still to come, of sockets or of time.
//
// Threads: one at a time; those of other connections may use the same regions meanwhile.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <span>

#include "donor/outbox.h"
#include "donor/region_table.h"
#include "transport/direct_memory.h"
#include "wire/frame.h"

namespace hecaton::donor {

// What all connections of a donor share.
struct DonorState {
  DonorState(uint64_t lends_bytes, uint64_t most_connections, RegionTableOptions options = {});

  const uint64_t instance;  // random: another one after each start
  const uint64_t max_connections;
  std::atomic<uint64_t> connections{0};
  RegionTable regions;
};

class Requests {
 public:
  static constexpr size_t kMaxRegions = 64;  // open at once on one connection

  // `exposer`: null if the peer cannot read memory by itself. Must outlive it.
  Requests(DonorState& donor, MemoryExposer* exposer) : donor_(donor), exposer_(exposer) {}

  // Whether a request with this header is worth receiving; if not, the connection ends with the refusal. Keeps a peer
  // from making the donor hold a big body that can't be right.
  std::optional<Refusal> check(const wire::FrameHeader& header) const;

  // Answers a request whose header passed check(). False: the connection ends once the reply is sent.
  bool handle(const wire::FrameHeader& header, std::span<const std::byte> body, Outbox& out);

  // The connection is over: it uses no region any more.
  void close_regions() {
    mapped_.clear();
    open_.clear();
  }

  bool greeted() const { return role_.has_value(); }
  bool has_region() const { return !open_.empty(); }
  // Of the peer's hello; kControl before it.
  wire::Role role() const { return role_.value_or(wire::Role::kControl); }

 private:
  using Outcome = std::optional<Refusal>;  // none: the reply is sent
  Outcome answer(const wire::FrameHeader& header, std::span<const std::byte> body, Outbox& out);
  Outcome hello(const wire::FrameHeader& header, std::span<const std::byte> body, Outbox& out);
  Outcome open(const wire::FrameHeader& header, std::span<const std::byte> body, Outbox& out);
  Outcome read(const wire::FrameHeader& header, std::span<const std::byte> body, Outbox& out);
  Outcome write(const wire::FrameHeader& header, std::span<const std::byte> body, Outbox& out);
  Outcome discard(const wire::FrameHeader& header, std::span<const std::byte> body, Outbox& out);
  Outcome reserve(const wire::FrameHeader& header, std::span<const std::byte> body, Outbox& out);
  Outcome stat(const wire::FrameHeader& header, Outbox& out);
  Outcome close(const wire::FrameHeader& header, Outbox& out);
  Outcome map_extent(const wire::FrameHeader& header, std::span<const std::byte> body, Outbox& out);
  // An extent that the peer reads by itself. The exposures end before the pin.
  struct Mapped {
    Region::Pin pin;
    std::unique_ptr<MemoryExposer::Exposure> pages, records;
  };
  std::variant<Mapped, Refusal> expose(const RegionTable::Attachment& attached, ExtentNumber extent);
  const RegionTable::Attachment* attachment(const wire::FrameHeader& header) const;

  DonorState& donor_;
  MemoryExposer* const exposer_;
  std::optional<wire::Role> role_;
  uint64_t client_instance_ = 0;
  uint32_t last_handle_ = 0;
  bool exposing_failed_ = false;  // and was logged
  std::map<uint32_t, RegionTable::Attachment> open_;
  std::map<std::pair<uint32_t, ExtentNumber>, Mapped> mapped_;  // by handle; ends before what it is of
};

// Sends a reply to `request`: header and body. For the replies that are not pages.
void send_reply(Outbox& out, const wire::FrameHeader& request, wire::Status status, std::span<const std::byte> body,
                uint32_t region = 0);
void send_refusal(Outbox& out, const wire::FrameHeader& request, const Refusal& refusal);

}  // namespace hecaton::donor
