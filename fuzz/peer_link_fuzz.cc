// A node's end of the two connections to another node that says anything: nothing asserts, a frame is handed over whole
// or not at all, and what is taken from a lane is never more than came on it.
//
// The input is what the other node sends, in parts: one byte for how much comes at once (bits 0-6, in steps of 8) and
// on which lane (bit 7), then so many bytes.
#include <algorithm>

#include "fuzz.h"
#include "node/peer_link.h"
#include "said_stream.h"

using namespace hecaton;
using node::Lane;
using node::PeerLink;

namespace {

// As the engine does. False: the peer broke the protocol.
bool take_all(PeerLink& link, std::array<size_t, wire::kLanes>& open_bytes) {
  for (bool taken = true; taken;) {
    taken = false;
    for (Lane lane : {Lane::kUrgent, Lane::kPages}) {
      Result<std::optional<PeerLink::Arrival>> next = link.next(lane);
      if (!next.ok()) return false;
      if (!next->has_value()) continue;
      taken = true;
      const PeerLink::Arrival& arrival = **next;
      const bool message = arrival.frame.kind == wire::FrameKind::kMessage;
      HEC_CHECK(message || lane == Lane::kUrgent);
      size_t bytes = wire::kLaneFrameBytes;
      if (message) bytes += wire::kCoherenceHeaderBytes + (arrival.message.carries_page ? kPageBytes : 0);
      HEC_CHECK(bytes <= open_bytes[static_cast<size_t>(lane)]);
      open_bytes[static_cast<size_t>(lane)] -= bytes;
    }
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto urgent = std::make_unique<fuzz::SaidStream>(), pages = std::make_unique<fuzz::SaidStream>();
  fuzz::SaidStream* const lanes[] = {urgent.get(), pages.get()};
  PeerLink link(NodeId(1), std::move(urgent), std::move(pages));
  std::array<size_t, wire::kLanes> open_bytes{};
  std::span<const std::byte> bytes = fuzz::bytes_of(data, size);
  while (!bytes.empty()) {
    const size_t first = std::to_integer<size_t>(bytes.front());
    const size_t lane = first >> 7;
    bytes = bytes.subspan(1);
    const size_t part = std::min(bytes.size(), 8 * (1 + (first & 0x7f)));
    lanes[lane]->say(bytes.first(part));
    bytes = bytes.subspan(part);
    open_bytes[lane] += part;
    while (!lanes[lane]->silent() && link.receive(static_cast<Lane>(lane))) {
      if (!take_all(link, open_bytes)) return 0;
    }
    if (!lanes[lane]->silent()) return 0;  // it would have to wait for the other lane, as over a real connection
  }
  return 0;
}
