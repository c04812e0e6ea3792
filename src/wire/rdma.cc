#include "wire/rdma.h"

#include "wire/codec.h"

namespace hecaton::wire {
namespace {

constexpr uint32_t kOfferMagic = 0x52434548;  // "HECR"
constexpr uint32_t kReadBit = uint32_t{1} << 31;

Error malformed(const char* what) {
  return Error{ErrorCode::kProtocol, 0, what};
}

}  // namespace

void encode(const RingOffer& offer, std::span<std::byte, kRingOfferBytes> out) {
  Writer writer(out);
  writer.put<uint32_t>(kOfferMagic);
  writer.put<uint16_t>(kRdmaVersion);
  writer.put<uint16_t>(0);
  writer.put<uint64_t>(offer.address);
  writer.put<uint32_t>(offer.key);
  writer.put<uint32_t>(offer.bytes);
  writer.put<uint32_t>(offer.messages);
  writer.put<uint32_t>(0);
}

Result<RingOffer> decode_ring_offer(std::span<const std::byte> bytes) {
  if (bytes.size() < kRingOfferBytes) return malformed("it connects as no Hecaton does");
  Reader reader(bytes.first(kRingOfferBytes));
  if (reader.get<uint32_t>() != kOfferMagic) return malformed("it connects as no Hecaton does");
  if (reader.get<uint16_t>() != kRdmaVersion) {
    return Error{ErrorCode::kUnsupported, 0, "it speaks another version of the RDMA protocol"};
  }
  reader.get<uint16_t>();
  RingOffer offer;
  offer.address = reader.get<uint64_t>();
  offer.key = reader.get<uint32_t>();
  offer.bytes = reader.get<uint32_t>();
  offer.messages = reader.get<uint32_t>();
  if (offer.bytes < kLeastRingBytes || offer.bytes > kMostRingBytes || offer.messages < kLeastRingMessages ||
      offer.messages > kMostRingMessages || offer.address > UINT64_MAX - offer.bytes) {
    return malformed("it offers an impossible ring");
  }
  return offer;
}

uint32_t encode_ring_note(RingNote note) {
  HEC_CHECK(note.count > 0 && note.count < kReadBit);
  return note.kind == RingNote::Kind::kRead ? note.count | kReadBit : note.count;
}

Result<RingNote> decode_ring_note(uint32_t immediate) {
  RingNote note{(immediate & kReadBit) != 0 ? RingNote::Kind::kRead : RingNote::Kind::kArrived, immediate & ~kReadBit};
  if (note.count == 0) return malformed("an empty note");
  return note;
}

std::array<std::byte, kMapExtentBytes> encode_map_extent(ExtentNumber extent) {
  std::array<std::byte, kMapExtentBytes> body;
  Writer(body).put<uint64_t>(extent.value);
  return body;
}

Result<ExtentNumber> decode_map_extent(std::span<const std::byte> body) {
  Reader reader(body);
  ExtentNumber extent(reader.get<uint64_t>());
  if (!reader.finished()) return malformed("map extent has the wrong length");
  return extent;
}

std::array<std::byte, kExtentKeysBytes> encode(const ExtentKeys& keys) {
  std::array<std::byte, kExtentKeysBytes> body;
  Writer writer(body);
  writer.put<uint64_t>(keys.extent.value);
  writer.put<uint32_t>(keys.pages_key);
  writer.put<uint32_t>(keys.records_key);
  return body;
}

Result<ExtentKeys> decode_extent_keys(std::span<const std::byte> body) {
  Reader reader(body);
  ExtentKeys keys;
  keys.extent = ExtentNumber(reader.get<uint64_t>());
  keys.pages_key = reader.get<uint32_t>();
  keys.records_key = reader.get<uint32_t>();
  if (!reader.finished()) return malformed("extent keys have the wrong length");
  return keys;
}

}  // namespace hecaton::wire
