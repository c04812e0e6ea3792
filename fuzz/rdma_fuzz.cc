// What arrives over RDMA beside frames: ring offers, the notes in immediates, and the bodies of map extent. What is
// taken encodes to what was sent.
#include <array>
#include <cstring>

#include "fuzz.h"
#include "wire/rdma.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto bytes = fuzz::bytes_of(data, size);
  if (auto offer = wire::decode_ring_offer(bytes); offer.ok()) {
    HEC_CHECK(offer->bytes >= wire::kLeastRingBytes && offer->bytes <= wire::kMostRingBytes);
    HEC_CHECK(offer->messages >= wire::kLeastRingMessages && offer->messages <= wire::kMostRingMessages);
    std::array<std::byte, wire::kRingOfferBytes> again;
    wire::encode(*offer, again);
    fuzz::check_same(bytes.subspan(8, 20), std::span(again).subspan(8, 20));
  }
  if (size >= 4) {
    uint32_t immediate;
    std::memcpy(&immediate, data, sizeof immediate);
    if (auto note = wire::decode_ring_note(immediate); note.ok()) HEC_CHECK(wire::encode_ring_note(*note) == immediate);
  }
  if (auto extent = wire::decode_map_extent(bytes); extent.ok()) {
    fuzz::check_same(bytes, wire::encode_map_extent(*extent));
  }
  if (auto keys = wire::decode_extent_keys(bytes); keys.ok()) fuzz::check_same(bytes, encode(*keys));
  return 0;
}
