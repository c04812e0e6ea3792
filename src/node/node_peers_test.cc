// What a node does about peers that are not what they should be. The other node is played by the test.
#include <gtest/gtest.h>

#include <future>

#include "node/node.h"
#include "transport/tls_stream.h"
#include "wire/node_link.h"

namespace hecaton::node {
namespace {

// Node 0 of two, and the test as node 1.
class NodePeers : public testing::Test {
 protected:
  NodePeers() : listener_(TcpListener::listen(NodeUrl{.token = {}, .host = "127.0.0.1", .port = 0}).value()) {
    config_.nodes = {listener_.address(), listener_.address()};
    config_.pages = {4, 4};
    config_.silence_ms = 60'000;
    config_.secret.fill(std::byte{0x5a});
  }

  std::future<Result<std::unique_ptr<Node>>> start() {
    return std::async(std::launch::async, [this] { return Node::start(config_, listener_); });
  }
  // What this peer says of itself.
  wire::NodeHello hello(Lane lane) const {
    wire::NodeHello made{lane, NodeId(1), config_.vm, digest_of(config_.pages), config_.secret};
    return made;
  }
  std::unique_ptr<Stream> call(const wire::NodeHello& hello) {
    auto stream = connect_tcp(listener_.address(), Deadline::after_ms(10'000)).value();
    std::array<std::byte, wire::kNodeHelloBytes> bytes{};
    encode(hello, bytes);
    EXPECT_TRUE(send_all(*stream, bytes, Deadline::after_ms(10'000)).ok());
    return stream;
  }
  static bool is_answered(Stream& stream) {
    std::array<std::byte, wire::kNodeHelloBytes> bytes{};
    return receive_all(stream, bytes, Deadline::after_ms(10'000)).ok();
  }
  void connect() {
    auto starting = start();
    for (Lane lane : {Lane::kUrgent, Lane::kPages}) {
      lanes_[static_cast<size_t>(lane)] = call(hello(lane));
      ASSERT_TRUE(is_answered(*lanes_[static_cast<size_t>(lane)]));
    }
    node_ = starting.get().value();
  }
  void say(Lane lane, const wire::CoherenceMessage& message) {
    std::array<std::byte, wire::kLaneFrameBytes + wire::kCoherenceHeaderBytes> bytes{};
    encode(wire::LaneFrame{wire::FrameKind::kMessage, NodeId(), 0}, std::span(bytes).first<wire::kLaneFrameBytes>());
    encode(message, 0, std::span(bytes).last<wire::kCoherenceHeaderBytes>());
    say(lane, bytes);
  }
  void say(Lane lane, std::span<const std::byte> bytes) {
    ASSERT_TRUE(send_all(*lanes_[static_cast<size_t>(lane)], bytes, Deadline::after_ms(10'000)).ok());
  }
  StopReason reason() {
    while (!node_->reason()) std::this_thread::yield();
    return *node_->reason();
  }

  TcpListener listener_;
  NodeConfig config_;
  std::array<std::unique_ptr<Stream>, wire::kLanes> lanes_;
  std::unique_ptr<Node> node_;
};

TEST_F(NodePeers, StrangersAreTurnedAwayAndTheRightOneIsWaitedFor) {
  auto starting = start();
  wire::NodeHello wrong_secret = hello(Lane::kUrgent), wrong_vm = wrong_secret, wrong_shape = wrong_secret,
                  wrong_node = wrong_secret;
  wrong_secret.secret[31] = std::byte{0};
  ++wrong_vm.vm;
  ++wrong_shape.shape;
  wrong_node.node = NodeId(0);
  for (const wire::NodeHello& stranger : {wrong_secret, wrong_vm, wrong_shape, wrong_node}) {
    EXPECT_FALSE(is_answered(*call(stranger)));
  }
  for (Lane lane : {Lane::kUrgent, Lane::kPages}) {
    lanes_[static_cast<size_t>(lane)] = call(hello(lane));
    EXPECT_TRUE(is_answered(*lanes_[static_cast<size_t>(lane)]));
  }
  EXPECT_TRUE(starting.get().ok());
}

TEST_F(NodePeers, AMalformedFrameCostsTheConnection) {
  connect();
  say(Lane::kUrgent, std::array<std::byte, wire::kLaneFrameBytes>{std::byte{0xff}});
  EXPECT_EQ(reason().kind, StopReason::Kind::kLost);
  EXPECT_EQ(reason().node, NodeId(1));
  EXPECT_EQ(reason().error.code, ErrorCode::kProtocol);
}

TEST_F(NodePeers, AMessageThatCannotBeCostsTheConnection) {
  connect();
  wire::CoherenceMessage done;
  done.kind = wire::CoherenceKind::kDone;
  say(Lane::kUrgent, done);
  EXPECT_EQ(reason().kind, StopReason::Kind::kLost);
  EXPECT_EQ(reason().error.code, ErrorCode::kProtocol);
}

TEST_F(NodePeers, AnEndedConnectionIsALostNode) {
  connect();
  reinterpret_cast<volatile std::byte*>(node_->memory())[0] = std::byte{1};
  lanes_[1].reset();
  EXPECT_EQ(reason().kind, StopReason::Kind::kLost);
  EXPECT_EQ(reason().node, NodeId(1));
}

TEST_F(NodePeers, ASilentNodeIsLost) {
  config_.silence_ms = 200;
  connect();
  EXPECT_EQ(reason().kind, StopReason::Kind::kLost);
  EXPECT_EQ(reason().error.code, ErrorCode::kTimeout);
}

TEST_F(NodePeers, ANodeThatSaysThatAnotherIsLostStopsThisOne) {
  connect();
  std::array<std::byte, wire::kLaneFrameBytes> bytes{};
  encode(wire::LaneFrame{wire::FrameKind::kFarewell, NodeId(0), 0}, bytes);
  say(Lane::kUrgent, bytes);
  EXPECT_EQ(reason().kind, StopReason::Kind::kReported);
}

TEST_F(NodePeers, BeyondLoopbackNothingIsServedWithoutTls) {
  auto everywhere = TcpListener::listen(NodeUrl{.token = {}, .host = "0.0.0.0", .port = 0}).value();
  EXPECT_EQ(Node::start(config_, everywhere).error().code, ErrorCode::kUntrusted);
}

}  // namespace
}  // namespace hecaton::node
