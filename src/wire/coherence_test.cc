#include "wire/coherence.h"

#include <gtest/gtest.h>

#include <vector>

namespace hecaton::wire {
namespace {

using Bytes = std::array<std::byte, kCoherenceHeaderBytes>;

Bytes encoded(const CoherenceMessage& message, uint64_t checksum = 0) {
  Bytes bytes;
  encode(message, checksum, bytes);
  return bytes;
}

CoherenceMessage exclusive() {
  CoherenceMessage message;
  message.kind = CoherenceKind::kExclusive;
  message.carries_page = message.to_read = message.unwritten = true;
  message.version = 0x01020304;
  message.page = PageNumber(0x02030405);
  message.await = NodeSet(0x8000'0000'0000'0001);
  return message;
}

TEST(CoherenceWire, AMessageComesBackAsItWas) {
  CoherenceHeader header = decode_coherence(encoded(exclusive(), 77)).value();
  EXPECT_EQ(header.message, exclusive());
  EXPECT_EQ(header.checksum, 77u);
}

TEST(CoherenceWire, EveryKindComesBackWithWhatItHasUseFor) {
  for (uint8_t kind = 1; kind <= static_cast<uint8_t>(kLastCoherenceKind); ++kind) {
    CoherenceMessage message;
    message.kind = static_cast<CoherenceKind>(kind);
    message.page = PageNumber(9);
    CoherenceHeader header = decode_coherence(encoded(message)).value();
    EXPECT_EQ(header.message, message) << name_of(message.kind);
  }
}

TEST(CoherenceWire, TheHeaderIsLittleEndianAndAtFixedPlaces) {
  Bytes bytes = encoded(exclusive(), 0x1122334455667788);
  EXPECT_EQ(bytes[0], std::byte{10});
  EXPECT_EQ(bytes[1], std::byte{7});
  EXPECT_EQ(bytes[4], std::byte{4});
  EXPECT_EQ(bytes[8], std::byte{5});
  EXPECT_EQ(bytes[16], std::byte{1});
  EXPECT_EQ(bytes[23], std::byte{0x80});
  EXPECT_EQ(bytes[24], std::byte{0x88});
}

TEST(CoherenceWire, AMessageOfTheWrongLengthIsRefused) {
  Bytes bytes = encoded(exclusive(), 1);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(decode_coherence(std::span(bytes).first(length)).ok()) << length;
  }
  std::vector<std::byte> longer(bytes.begin(), bytes.end());
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_coherence(longer).ok());
}

TEST(CoherenceWire, WhatNoNodeSaysIsRefused) {
  struct Change {
    size_t at;
    int value;
    const char* what;
  };
  const Bytes read = encoded(CoherenceMessage{});
  for (Change change :
       {Change{0, 0, "no kind"}, Change{0, 12, "an unknown kind"}, Change{1, 1, "a page that it carries"},
        Change{1, 8, "an unknown flag"}, Change{2, 1, "a requester"}, Change{2, 64, "no node"},
        Change{3, 1, "the byte without use"}, Change{4, 1, "a version"}, Change{15, 1, "no page"},
        Change{16, 1, "somebody to await"}, Change{24, 1, "a checksum of nothing"}}) {
    Bytes bytes = read;
    bytes[change.at] = static_cast<std::byte>(change.value);
    Result<CoherenceHeader> header = decode_coherence(bytes);
    ASSERT_FALSE(header.ok()) << change.what;
    EXPECT_EQ(header.error().code, ErrorCode::kProtocol);
  }
}

}  // namespace
}  // namespace hecaton::wire
