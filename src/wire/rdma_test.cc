#include "wire/rdma.h"

#include <gtest/gtest.h>

#include <vector>

namespace hecaton::wire {
namespace {

constexpr RingOffer kOffer{0x7f0000001000, 77, 512 * 1024, 512};

std::vector<std::byte> encoded(const RingOffer& offer, size_t padded_to = kRingOfferBytes) {
  std::vector<std::byte> bytes(padded_to);
  encode(offer, std::span(bytes).first<kRingOfferBytes>());
  return bytes;
}

TEST(RdmaWire, ARingOfferComesBackAsItWasThoughItsCarrierPaddedIt) {
  RingOffer offer = decode_ring_offer(encoded(kOffer, 196)).value();
  EXPECT_EQ(offer.address, kOffer.address);
  EXPECT_EQ(offer.key, kOffer.key);
  EXPECT_EQ(offer.bytes, kOffer.bytes);
  EXPECT_EQ(offer.messages, kOffer.messages);
}

TEST(RdmaWire, AnOfferThatIsNoneIsRefused) {
  std::vector<std::byte> good = encoded(kOffer);
  EXPECT_FALSE(decode_ring_offer(std::span(good).first(kRingOfferBytes - 1)).ok());
  std::vector<std::byte> foreign(56);
  EXPECT_FALSE(decode_ring_offer(foreign).ok());
  std::vector<std::byte> newer = good;
  newer[4] = std::byte{9};
  EXPECT_EQ(decode_ring_offer(newer).error().code, ErrorCode::kUnsupported);
}

TEST(RdmaWire, AnOfferOfAnImpossibleRingIsRefused) {
  for (RingOffer bad : {RingOffer{0, 1, kLeastRingBytes - 1, 512}, RingOffer{0, 1, kMostRingBytes + 1, 512},
                        RingOffer{0, 1, kLeastRingBytes, kLeastRingMessages - 1},
                        RingOffer{0, 1, kLeastRingBytes, kMostRingMessages + 1},
                        RingOffer{UINT64_MAX - 4096, 1, kLeastRingBytes, 512}}) {
    EXPECT_FALSE(decode_ring_offer(encoded(bad)).ok()) << bad.bytes << " " << bad.messages;
  }
}

TEST(RdmaWire, NotesTellBytesFromMessagesAndAreNeverEmpty) {
  RingNote arrived = decode_ring_note(encode_ring_note({RingNote::Kind::kArrived, 5})).value();
  EXPECT_EQ(arrived.kind, RingNote::Kind::kArrived);
  EXPECT_EQ(arrived.count, 5u);
  RingNote read = decode_ring_note(encode_ring_note({RingNote::Kind::kRead, 7})).value();
  EXPECT_EQ(read.kind, RingNote::Kind::kRead);
  EXPECT_EQ(read.count, 7u);
  EXPECT_FALSE(decode_ring_note(0).ok());
  EXPECT_FALSE(decode_ring_note(uint32_t{1} << 31).ok());
}

TEST(RdmaWire, MapExtentAndItsKeysHaveOneLength) {
  auto request = encode_map_extent(ExtentNumber(9));
  EXPECT_EQ(decode_map_extent(request).value(), ExtentNumber(9));
  EXPECT_FALSE(decode_map_extent(std::span(request).first(7)).ok());
  auto reply = encode(ExtentKeys{ExtentNumber(9), 1, 2});
  ExtentKeys keys = decode_extent_keys(reply).value();
  EXPECT_EQ(keys.extent, ExtentNumber(9));
  EXPECT_EQ(keys.pages_key, 1u);
  EXPECT_EQ(keys.records_key, 2u);
  std::vector<std::byte> longer(reply.begin(), reply.end());
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_extent_keys(longer).ok());
}

}  // namespace
}  // namespace hecaton::wire
