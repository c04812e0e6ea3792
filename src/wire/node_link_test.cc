#include "wire/node_link.h"

#include <gtest/gtest.h>

namespace hecaton::wire {
namespace {

TEST(NodeHello, ComesBackAsItWas) {
  NodeHello hello{Lane::kPages, NodeId(63), 7, 9, {}};
  hello.nonce.fill(std::byte{0xa5});
  std::array<std::byte, kNodeHelloBytes> bytes{};
  encode(hello, bytes);
  EXPECT_EQ(decode_node_hello(bytes).value(), hello);
}

TEST(NodeHello, OfAnotherVersionLaneOrNodeIsRefused) {
  for (size_t at : {0u, 4u, 6u, 7u}) {
    std::array<std::byte, kNodeHelloBytes> bytes{};
    encode(NodeHello{}, bytes);
    bytes[at] = std::byte{0x77};
    EXPECT_FALSE(decode_node_hello(bytes).ok()) << at;
  }
  EXPECT_FALSE(decode_node_hello({}).ok());
}

TEST(LaneFrame, ComesBackAsItWas) {
  for (LaneFrame frame : {LaneFrame{FrameKind::kMessage, NodeId(), 0xfffffffe},
                          LaneFrame{FrameKind::kAlive, NodeId(), 0}, LaneFrame{FrameKind::kFarewell, NodeId(63), 5}}) {
    std::array<std::byte, kLaneFrameBytes> bytes{};
    encode(frame, bytes);
    EXPECT_EQ(decode_lane_frame(bytes).value(), frame);
  }
}

TEST(LaneFrame, ThatIsNoneIsRefused) {
  for (std::array<std::byte, kLaneFrameBytes> bytes :
       {std::array<std::byte, 8>{}, std::array<std::byte, 8>{std::byte{4}},
        std::array<std::byte, 8>{std::byte{1}, std::byte{1}}, std::array<std::byte, 8>{std::byte{3}, std::byte{64}},
        std::array<std::byte, 8>{std::byte{2}, std::byte{0}, std::byte{1}}}) {
    EXPECT_FALSE(decode_lane_frame(bytes).ok());
  }
}

}  // namespace
}  // namespace hecaton::wire
