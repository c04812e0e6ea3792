// What a node does about peers that are not what they should be. The other node is played by the test.
#include <gmock/gmock.h>
#include <poll.h>

#include <future>

#include "node/cluster_for_tests.h"
#include "node/greeting.h"
#include "wire/node_link.h"

namespace hecaton::node {
namespace {

using testing::HasSubstr;

// Node 0 of two, and the test as node 1.
class NodePeers : public testing::Test {
 protected:
  NodePeers() : listener_(listen_on_loopback()) {
    config_.nodes = {listener_.address(), listener_.address()};
    config_.pages = {4, 4};
    config_.silence_ms = 60'000;
    config_.secret.fill(std::byte{0x5a});
  }

  std::future<Result<std::unique_ptr<Node>>> start() {
    return std::async(std::launch::async, [this] { return Node::start(config_, std::move(listener_)); });
  }
  // What this peer says of itself.
  Greeting greeting() const { return Greeting{NodeId(1), config_.vm, digest_of(config_.pages), config_.secret}; }
  Result<std::unique_ptr<Stream>> call(const Greeting& mine, Lane lane) {
    auto stream = HEC_TRY(connect_tcp(config_.nodes[0], Deadline::after_ms(10'000)));
    HEC_TRY(greet_callee(mine, *stream, NodeId(), lane, Deadline::after_ms(10'000)));
    return stream;
  }
  void connect() {
    auto starting = start();
    connect_to(starting);
  }
  void connect_to(std::future<Result<std::unique_ptr<Node>>>& starting) {
    for (Lane lane : {Lane::kUrgent, Lane::kPages}) {
      lanes_[static_cast<size_t>(lane)] = call(greeting(), lane).value();
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
  void say_alive() {
    std::array<std::byte, wire::kLaneFrameBytes> bytes{};
    encode(wire::LaneFrame{wire::FrameKind::kAlive, NodeId(), 0}, bytes);
    say(Lane::kUrgent, bytes);
  }
  void hear_alive() {
    std::array<std::byte, wire::kLaneFrameBytes> bytes{};
    ASSERT_TRUE(receive_all(*lanes_[0], bytes, Deadline::after_ms(10'000)).ok());
    EXPECT_EQ(wire::decode_lane_frame(bytes).value().kind, wire::FrameKind::kAlive);
  }
  StopReason reason() {
    while (!node_->reason()) std::this_thread::yield();
    return *node_->reason();
  }

  TcpListener listener_;  // until node 0 is started
  NodeConfig config_;
  std::array<std::unique_ptr<Stream>, wire::kLanes> lanes_;
  std::unique_ptr<Node> node_;
};

TEST_F(NodePeers, StrangersAreTurnedAwayAndTheRightOneIsWaitedFor) {
  auto starting = start();
  Greeting wrong_secret = greeting(), wrong_vm = greeting(), wrong_shape = greeting(), wrong_node = greeting();
  wrong_secret.secret[31] = std::byte{0};
  ++wrong_vm.vm;
  ++wrong_shape.shape;
  wrong_node.self = NodeId();
  for (const Greeting& stranger : {wrong_secret, wrong_vm, wrong_shape, wrong_node}) {
    EXPECT_FALSE(call(stranger, Lane::kUrgent).ok());
  }
  for (Lane lane : {Lane::kUrgent, Lane::kPages}) lanes_[static_cast<size_t>(lane)] = call(greeting(), lane).value();
  EXPECT_TRUE(starting.get().ok());
}

TEST_F(NodePeers, ANodeThatWaitsInVainSaysForWhomAndWhomItTurnedAway) {
  std::string problem;
  Greeting stranger = greeting();
  stranger.secret[0] = std::byte{0};
  // As long as a busy machine takes to hear the stranger out.
  for (config_.start_ms = 500; config_.start_ms < 20'000 && problem.find("secret") == problem.npos;
       config_.start_ms *= 2) {
    listener_ = listen_on_loopback();
    config_.nodes[0] = listener_.address();
    auto starting =
        std::async(std::launch::async, [&] { return Node::start(config_, std::move(listener_), &problem); });
    EXPECT_FALSE(call(stranger, Lane::kUrgent).ok());
    EXPECT_EQ(starting.get().error().code, ErrorCode::kTimeout);
  }
  EXPECT_THAT(problem, HasSubstr("node 1 at 127.0.0.1:"));
  EXPECT_THAT(problem, HasSubstr("does not know this VM's secret"));
}

TEST_F(NodePeers, ANodeThatIsTurnedAwaySaysWhereAndWhatToDo) {
  auto starting = start();
  NodeConfig other = config_;
  other.self = NodeId(1);
  other.secret[0] = std::byte{0};
  std::string problem;
  EXPECT_EQ(Node::start(other, listen_on_loopback(), &problem).error().code, ErrorCode::kUntrusted);
  EXPECT_THAT(problem, HasSubstr("node 0 at " + config_.nodes[0].printable()));
  EXPECT_THAT(problem, HasSubstr("give all nodes of the VM the same"));
  connect_to(starting);
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
  say_alive();
  EXPECT_EQ(reason().kind, StopReason::Kind::kLost);
  EXPECT_EQ(reason().error.code, ErrorCode::kTimeout);
}

// It may still connect to others, and says nothing until it has.
TEST_F(NodePeers, ANodeThatHasNotYetSpokenIsWaitedForLonger) {
  config_.silence_ms = 200;
  connect();
  for (int i = 0; i < 6; ++i) hear_alive();  // more than 200 ms
  EXPECT_FALSE(node_->reason());
  say_alive();
  EXPECT_EQ(reason().error.code, ErrorCode::kTimeout);
}

TEST_F(NodePeers, CallersThatSayNothingKeepNobodyWaiting) {
  std::vector<std::unique_ptr<Stream>> silent;
  for (int i = 0; i < 100; ++i) silent.push_back(connect_tcp(config_.nodes[0], Deadline::after_ms(10'000)).value());
  connect();
  EXPECT_FALSE(node_->reason());
}

TEST_F(NodePeers, OnceAllAreConnectedWhoCallsIsRefusedAndWhoSaidNothingIsHungUpOn) {
  auto silent = connect_tcp(config_.nodes[0], Deadline::after_ms(10'000)).value();
  connect();
  const auto late = connect_tcp(config_.nodes[0], Deadline::after_ms(10'000));
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().os_error, ECONNREFUSED);
  std::array<std::byte, 1> byte{};
  EXPECT_EQ(receive_all(*silent, byte, Deadline::after_ms(10'000)).error().code, ErrorCode::kClosed);
  EXPECT_FALSE(node_->reason());
}

TEST_F(NodePeers, ANodeThatComesTooLateSaysWhatToDo) {
  connect();
  NodeConfig late = config_;
  late.self = NodeId(1);
  late.start_ms = 100;
  std::string problem;
  EXPECT_EQ(Node::start(late, listen_on_loopback(), &problem).error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(problem, HasSubstr("node 0 at " + config_.nodes[0].printable()));
  EXPECT_THAT(problem, HasSubstr("start all nodes together"));
}

TEST_F(NodePeers, ANodeThatEndsBeforeAllAreConnectedEndsTheStart) {
  config_.nodes.push_back(config_.nodes[0]);
  config_.pages = {4, 4, 4};
  config_.start_ms = 600'000;
  std::string problem;
  auto starting = std::async(std::launch::async, [&] { return Node::start(config_, std::move(listener_), &problem); });
  for (Lane lane : {Lane::kUrgent, Lane::kPages}) lanes_[static_cast<size_t>(lane)] = call(greeting(), lane).value();
  lanes_[0].reset();
  EXPECT_EQ(starting.get().error().code, ErrorCode::kClosed);
  EXPECT_THAT(problem, HasSubstr("node 1 at 127.0.0.1:"));
  EXPECT_THAT(problem, HasSubstr("before all nodes were connected"));
}

// The test listens, as node 0; node 1 calls.
TEST_F(NodePeers, ACallerThatIsHungUpOnCallsAgain) {
  NodeConfig caller = config_;
  caller.self = NodeId(1);
  auto starting = std::async(std::launch::async, [&] { return Node::start(caller, listen_on_loopback()); });
  const auto next_call = [&] {
    for (;;) {
      pollfd waiting{listener_.fd(), POLLIN, 0};
      (void)poll(&waiting, 1, 10'000);
      if (std::unique_ptr<Stream> stream = listener_.accept().value()) return stream;
    }
  };
  next_call().reset();
  std::vector<std::unique_ptr<Stream>> lanes;
  Greeting mine = greeting();
  mine.self = NodeId();
  while (lanes.size() < wire::kLanes) {
    std::unique_ptr<Stream> stream = next_call();
    Answer answer(mine, 2);
    while (!answer.advance(*stream).value()) {
      pollfd waiting{stream->fd(), stream->receive_events(), 0};
      (void)poll(&waiting, 1, 10'000);
    }
    lanes.push_back(std::move(stream));
  }
  EXPECT_TRUE(starting.get().ok());
}

TEST_F(NodePeers, ANodeThatSaysThatAnotherIsLostStopsThisOne) {
  connect();
  std::array<std::byte, wire::kLaneFrameBytes> bytes{};
  encode(wire::LaneFrame{wire::FrameKind::kFarewell, NodeId(0), 0}, bytes);
  say(Lane::kUrgent, bytes);
  EXPECT_EQ(reason().kind, StopReason::Kind::kReported);
  EXPECT_EQ(reason().describe(), "node 0 is lost: node 1 says so");
}

TEST_F(NodePeers, BeyondLoopbackNothingIsServedWithoutASecret) {
  config_.secret = {};
  config_.insecure = true;
  auto everywhere = TcpListener::listen(NodeUrl{.token = {}, .host = "0.0.0.0", .port = 0}).value();
  EXPECT_EQ(Node::start(config_, std::move(everywhere)).error().code, ErrorCode::kUntrusted);
}

TEST_F(NodePeers, BeyondLoopbackNothingIsServedWithoutTls) {
  auto everywhere = TcpListener::listen(NodeUrl{.token = {}, .host = "0.0.0.0", .port = 0}).value();
  EXPECT_EQ(Node::start(config_, std::move(everywhere)).error().code, ErrorCode::kUntrusted);
}

}  // namespace
}  // namespace hecaton::node
