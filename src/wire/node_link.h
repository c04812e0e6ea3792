// What nodes of an aggregate VM say to each other on a connection, around the messages of wire/coherence.h. Encoding
// and decoding only.
//
// Two nodes have two connections, lanes: pages travel on one, and what must not wait behind a page on the other. Each
// begins with a greeting:
//
//   who calls ── hello ──▶ who listens ── hello ──▶ who calls ── proof ──▶ who listens ── proof ──▶ who calls
//
// A hello:
//
//    0  u32  "HECN"               8  u64  VM: which one, and which start of it
//    4  u16  version             16  u64  shape: a digest of who is home of what; the same at all nodes
//    6  u8   lane                24  32 bytes, random, new for each connection
//    7  u8   node: who speaks
//
// A proof is 32 bytes, and shows that its maker knows the VM's secret: HMAC-SHA-256, keyed with the secret, of whether
// the maker calls or listens, both hellos, and a value of the TLS connection (src/node/greeting.cc). The secret is
// never sent. Instead of the last proof, 32 zeros turn a caller away whose proof is wrong; instead of a hello, "HECT"
// one who calls without TLS. If the connection just ends, it may call again.
//
// Then frames: 8 bytes, and after those of kMessage a coherence message with its page.
//
//    0  u8   kind                 2  u16  0
//    1  u8   node (of kFarewell)  4  u32  after: how many frames of the *other* lane come before this one
//
// The lanes race. A message that belongs behind one about the same page on the other lane says so by `after`: whoever
// receives it waits until as many frames of the other lane have been taken. Counts are modulo 2^32, from the greeting
// on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/node_id.h"
#include "base/result.h"
#include "wire/coherence.h"

namespace hecaton::wire {

inline constexpr uint16_t kNodeLinkVersion = 2;
inline constexpr size_t kNodeHelloBytes = 56;
inline constexpr size_t kNodeProofBytes = 32;
inline constexpr std::array<std::byte, kNodeProofBytes> kTurnedAway{};
inline constexpr std::array<std::byte, 4> kWantsTls{std::byte('H'), std::byte('E'), std::byte('C'), std::byte('T')};
inline constexpr size_t kLaneFrameBytes = 8;
inline constexpr size_t kMostFrameBytes = kLaneFrameBytes + kCoherenceHeaderBytes + kPageBytes;

enum class Lane : uint8_t { kUrgent = 0, kPages = 1 };
inline constexpr size_t kLanes = 2;
constexpr Lane other(Lane lane) {
  return lane == Lane::kUrgent ? Lane::kPages : Lane::kUrgent;
}

struct NodeHello {
  Lane lane = Lane::kUrgent;
  NodeId node;
  uint64_t vm = 0;
  uint64_t shape = 0;
  std::array<std::byte, 32> nonce{};

  bool operator==(const NodeHello&) const = default;
};
void encode(const NodeHello& hello, std::span<std::byte, kNodeHelloBytes> out);
// Error: not a hello, or of another version.
Result<NodeHello> decode_node_hello(std::span<const std::byte> bytes);

enum class FrameKind : uint8_t {
  kMessage = 1,   // a coherence message follows
  kAlive = 2,     // nothing to say, but still here
  kFarewell = 3,  // the last frame: `node` is lost, or, if it is the sender itself, the sender ends as it should
};

struct LaneFrame {
  FrameKind kind = FrameKind::kAlive;
  NodeId node;
  uint32_t after = 0;

  bool operator==(const LaneFrame&) const = default;
};
void encode(const LaneFrame& frame, std::span<std::byte, kLaneFrameBytes> out);
Result<LaneFrame> decode_lane_frame(std::span<const std::byte> bytes);

}  // namespace hecaton::wire
