#include "store/donor_client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

namespace hecaton {
namespace {

using Bytes = std::vector<std::byte>;

// A connection whose donor is this test: it writes what a donor would, byte for byte.
class ScriptedLink {
 public:
  explicit ScriptedLink(LinkBuffers& buffers) {
    auto [ours, theirs] = in_process_pair().value();
    donor_ = std::move(theirs);
    say({wire::Operation::kHello, wire::Status::kOk, 0, 0, 1},
        wire::encode(wire::HelloReply{1, 7, 4096, 4096, "test"}));
    std::string detail;
    client_ = std::make_unique<DonorClient>(
        DonorClient::handshake(std::move(ours), wire::Role::kPrefetch, 1, buffers, Deadline::after_ms(2000), &detail)
            .value());
  }

  static Bytes frame(wire::FrameHeader header, const Bytes& body) {
    header.body_bytes = static_cast<uint32_t>(body.size());
    Bytes bytes(wire::kHeaderBytes);
    wire::encode_header(header, bytes.data());
    bytes.insert(bytes.end(), body.begin(), body.end());
    return bytes;
  }
  static Bytes answer(uint64_t id, size_t body_bytes) {
    return frame({wire::Operation::kReadPages, wire::Status::kOk, 0, 1, id}, Bytes(body_bytes, std::byte(id)));
  }
  void say(const Bytes& bytes, size_t from = 0, size_t count = SIZE_MAX) {
    auto part = std::span(bytes).subspan(from, std::min(count, bytes.size() - from));
    ASSERT_TRUE(send_all(*donor_, part, Deadline::after_ms(2000)).ok());
  }
  void say(wire::FrameHeader header, const Bytes& body) { say(frame(header, body)); }

  // Request ids of the whole answers that have arrived; each must hold the bytes that answer() gave it.
  std::vector<uint64_t> received() {
    std::vector<uint64_t> ids;
    auto take = [&](const wire::FrameHeader& header, std::span<const std::byte> body) -> Result<void> {
      ids.push_back(header.request_id);
      for (std::byte b : body) EXPECT_EQ(b, std::byte(header.request_id));
      return {};
    };
    result_ = client_->receive(take);
    return ids;
  }
  const Result<size_t>& result() const { return result_; }
  DonorClient& client() { return *client_; }

 private:
  std::unique_ptr<Stream> donor_;
  std::unique_ptr<DonorClient> client_;
  Result<size_t> result_ = size_t{0};
};

constexpr size_t kFrame = 1000;

TEST(DonorClient, PartsOfFramesOnSeveralConnectionsDoNotMix) {
  LinkBuffers buffers(kFrame);
  ScriptedLink first(buffers), second(buffers);
  const Bytes one = ScriptedLink::answer(1, 600), two = ScriptedLink::answer(2, 700);
  first.say(one, 0, 300);
  second.say(two, 0, 10);
  EXPECT_TRUE(first.received().empty());
  EXPECT_TRUE(second.received().empty());
  first.say(one, 300);
  second.say(two, 10);
  EXPECT_EQ(second.received(), std::vector<uint64_t>{2});
  EXPECT_EQ(first.received(), std::vector<uint64_t>{1});
}

TEST(DonorClient, OnlyPartsOfFramesNeedABuffer) {
  LinkBuffers buffers(kFrame);
  std::vector<std::unique_ptr<ScriptedLink>> links;
  for (uint64_t i = 0; i < 20; ++i) links.push_back(std::make_unique<ScriptedLink>(buffers));
  for (uint64_t i = 0; i < 20; ++i) {
    links[i]->say(ScriptedLink::answer(i, 500));
    EXPECT_EQ(links[i]->received(), std::vector<uint64_t>{i});
  }
  EXPECT_EQ(buffers.made(), 1u);
}

TEST(DonorClient, PreparedBuffersAreAllThatAreEverMade) {
  LinkBuffers buffers(kFrame);
  buffers.prepare(3);
  ScriptedLink a(buffers), b(buffers), c(buffers);
  for (ScriptedLink* link : {&a, &b, &c}) {
    link->say(ScriptedLink::answer(1, 500), 0, 100);
    EXPECT_TRUE(link->received().empty());
  }
  EXPECT_EQ(buffers.made(), 3u);
}

TEST(DonorClient, TakesManyFramesThatArriveAtOnce) {
  LinkBuffers buffers(kFrame);
  ScriptedLink link(buffers);
  std::vector<uint64_t> sent;
  for (uint64_t id = 1; id <= 50; ++id) {
    link.say(ScriptedLink::answer(id, id * 13));
    sent.push_back(id);
  }
  EXPECT_EQ(link.received(), sent);
  EXPECT_TRUE(link.client().idle());
}

TEST(DonorClient, AnAnswerThatIsTooLongBreaksTheConnection) {
  LinkBuffers buffers(kFrame);
  ScriptedLink link(buffers);
  link.say(ScriptedLink::answer(1, kFrame), 0, 500);
  EXPECT_TRUE(link.received().empty());
  ASSERT_FALSE(link.result().ok());
  EXPECT_EQ(link.result().error().code, ErrorCode::kProtocol);
}

TEST(DonorClient, IsIdleWhenEveryRequestIsAnswered) {
  LinkBuffers buffers(kFrame);
  ScriptedLink link(buffers);
  EXPECT_TRUE(link.client().idle());
  const PageNumber page(5);
  ASSERT_TRUE(link.client().send_read(9, std::span(&page, 1)).ok());
  EXPECT_FALSE(link.client().idle());
  link.say(ScriptedLink::answer(9, 100));
  EXPECT_EQ(link.received(), std::vector<uint64_t>{9});
  EXPECT_TRUE(link.client().idle());
}

}  // namespace
}  // namespace hecaton
