#include "wire/node_link.h"

#include <algorithm>

#include "wire/codec.h"

namespace hecaton::wire {
namespace {

constexpr uint32_t kMagic = 0x4e434548;  // "HECN"

Error malformed(const char* what) {
  return Error{ErrorCode::kProtocol, 0, what};
}

}  // namespace

void encode(const NodeHello& hello, std::span<std::byte, kNodeHelloBytes> out) {
  Writer writer(out);
  writer.put<uint32_t>(kMagic);
  writer.put<uint16_t>(kNodeLinkVersion);
  writer.put<uint8_t>(static_cast<uint8_t>(hello.lane));
  writer.put<uint8_t>(hello.node.value);
  writer.put<uint64_t>(hello.vm);
  writer.put<uint64_t>(hello.shape);
  std::copy(hello.nonce.begin(), hello.nonce.end(), out.begin() + 24);
}

Result<NodeHello> decode_node_hello(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  const uint32_t magic = reader.get<uint32_t>();
  const uint16_t version = reader.get<uint16_t>();
  const uint8_t lane = reader.get<uint8_t>();
  const uint8_t node = reader.get<uint8_t>();
  NodeHello hello;
  hello.vm = reader.get<uint64_t>();
  hello.shape = reader.get<uint64_t>();
  reader.bytes(hello.nonce);
  if (!reader.finished() || magic != kMagic) return malformed("what speaks there is no node: check its address");
  if (version != kNodeLinkVersion) return malformed("it is of another version: install the same Hecaton at all nodes");
  if (lane >= kLanes || node >= kMostNodes) return malformed("a hello that names an impossible lane or node");
  hello.lane = static_cast<Lane>(lane);
  hello.node = NodeId(node);
  return hello;
}

void encode(const LaneFrame& frame, std::span<std::byte, kLaneFrameBytes> out) {
  Writer writer(out);
  writer.put<uint8_t>(static_cast<uint8_t>(frame.kind));
  writer.put<uint8_t>(frame.kind == FrameKind::kFarewell ? frame.node.value : 0);
  writer.put<uint16_t>(0);
  writer.put<uint32_t>(frame.after);
}

Result<LaneFrame> decode_lane_frame(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  const uint8_t kind = reader.get<uint8_t>();
  const uint8_t node = reader.get<uint8_t>();
  const uint16_t zero = reader.get<uint16_t>();
  LaneFrame frame;
  frame.after = reader.get<uint32_t>();
  if (!reader.finished()) return malformed("a frame between nodes has the wrong length");
  if (kind < 1 || kind > static_cast<uint8_t>(FrameKind::kFarewell)) return malformed("an unknown frame between nodes");
  frame.kind = static_cast<FrameKind>(kind);
  if (node >= kMostNodes) return malformed("a farewell names an impossible node");
  if (zero != 0 || (frame.kind != FrameKind::kFarewell && node != 0)) {
    return malformed("a frame between nodes has something where nothing belongs");
  }
  frame.node = NodeId(node);
  return frame;
}

}  // namespace hecaton::wire
