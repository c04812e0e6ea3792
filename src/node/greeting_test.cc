#include "node/greeting.h"

#include <gmock/gmock.h>
#include <poll.h>

#include <algorithm>
#include <future>

#include "transport/tls_stream.h"

namespace hecaton::node {
namespace {

using testing::HasSubstr;

Deadline soon() {
  return Deadline::after_ms(20'000);
}

// Node 0 is called by node 1.
class Greet : public testing::Test {
 protected:
  Greet() {
    auto streams = in_process_pair().value();
    caller_ = std::move(streams.first);
    callee_ = std::move(streams.second);
    for (Greeting* one : {&zero_, &one_}) {
      one->vm = 7;
      one->shape = 9;
      for (size_t i = 0; i < one->secret.size(); ++i) one->secret[i] = std::byte(0xa0 + i);
    }
    one_.self = NodeId(1);
  }

  struct Outcome {
    Result<void> caller;
    Result<Caller> callee;
  };
  Outcome greet() {
    auto answer = std::async(std::launch::async, [this] { return answered(*callee_); });
    Result<void> called = greet_callee(one_, *caller_, NodeId(size_t{0}), Lane::kPages, soon());
    caller_.reset();
    return {called, answer.get()};
  }
  // As the mesh does: who is refused is hung up on.
  Result<Caller> answered(Stream& stream) {
    Answer answer(zero_, 4);
    for (;;) {
      Result<std::optional<Caller>> who = answer.advance(stream);
      claimed_ = answer.claimed();
      if (!who.ok()) callee_.reset();
      if (!who.ok()) return who.error();
      if (who->has_value()) return **who;
      pollfd waiting{stream.fd(), stream.receive_events(), 0};
      if (poll(&waiting, 1, soon().remaining_ms()) <= 0) return Error{ErrorCode::kTimeout, 0, "nothing came"};
    }
  }

  std::unique_ptr<Stream> caller_, callee_;
  Greeting zero_, one_;
  std::optional<NodeId> claimed_;
};

TEST_F(Greet, NodesOfOneVmFindEachOther) {
  const Outcome outcome = greet();
  ASSERT_TRUE(outcome.caller.ok()) << outcome.caller.error().describe();
  ASSERT_TRUE(outcome.callee.ok()) << outcome.callee.error().describe();
  EXPECT_EQ(outcome.callee.value().node, NodeId(1));
  EXPECT_EQ(outcome.callee.value().lane, Lane::kPages);
}

TEST_F(Greet, WithAnotherSecretBothSidesRefuseAndSayWhatToDo) {
  one_.secret[31] ^= std::byte{1};
  const Outcome outcome = greet();
  for (const Error& error : {outcome.caller.error(), outcome.callee.error()}) {
    EXPECT_EQ(error.code, ErrorCode::kUntrusted);
    EXPECT_THAT(error.context, HasSubstr("secret"));
    EXPECT_THAT(error.context, HasSubstr("give all nodes of the VM the same one"));
  }
  EXPECT_EQ(claimed_, NodeId(1));
}

TEST_F(Greet, ToBeHungUpOnIsNoRefusal) {
  auto calling = std::async(std::launch::async,
                            [this] { return greet_callee(one_, *caller_, NodeId(size_t{0}), Lane::kPages, soon()); });
  std::array<std::byte, wire::kNodeHelloBytes> hello{};
  ASSERT_TRUE(receive_all(*callee_, hello, soon()).ok());
  hello[7] = std::byte{0};
  ASSERT_TRUE(send_all(*callee_, hello, soon()).ok());
  std::array<std::byte, wire::kNodeProofBytes> proof{};
  ASSERT_TRUE(receive_all(*callee_, proof, soon()).ok());
  callee_.reset();
  EXPECT_EQ(calling.get().error().code, ErrorCode::kClosed);
}

TEST_F(Greet, ACallThatComesInPiecesIsAnsweredLikeAnyOther) {
  auto [pieces, caller] = in_process_pair().value();
  auto calling = std::async(std::launch::async, [this, stream = caller.get()] {
    return greet_callee(one_, *stream, NodeId(size_t{0}), Lane::kPages, soon());
  });
  Answer answer(zero_, 4);
  std::optional<Caller> who;
  auto pass_on = [&](size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) {
      EXPECT_FALSE(who) << "before its last byte";
      std::array<std::byte, 1> byte{};
      ASSERT_TRUE(receive_all(*pieces, byte, soon()).ok());
      ASSERT_TRUE(send_all(*caller_, byte, soon()).ok());
      who = answer.advance(*callee_).value();
    }
  };
  pass_on(wire::kNodeHelloBytes);
  std::array<std::byte, wire::kNodeHelloBytes> hello{};
  ASSERT_TRUE(receive_all(*caller_, hello, soon()).ok());
  ASSERT_TRUE(send_all(*pieces, hello, soon()).ok());
  pass_on(wire::kNodeProofBytes);
  ASSERT_TRUE(who);
  EXPECT_EQ(who->node, NodeId(1));
  std::array<std::byte, wire::kNodeProofBytes> proof{};
  ASSERT_TRUE(receive_all(*caller_, proof, soon()).ok());
  ASSERT_TRUE(send_all(*pieces, proof, soon()).ok());
  EXPECT_TRUE(calling.get().ok());
}

TEST_F(Greet, OfAnotherStartOfTheVmIsRefusedByBoth) {
  ++one_.vm;
  const Outcome outcome = greet();
  EXPECT_THAT(outcome.caller.error().context, HasSubstr("another start"));
  EXPECT_THAT(outcome.callee.error().context, HasSubstr("another start"));
}

TEST_F(Greet, WhoDividesMemoryOtherwiseIsRefusedByBoth) {
  ++one_.shape;
  const Outcome outcome = greet();
  EXPECT_THAT(outcome.caller.error().context, HasSubstr("divides"));
  EXPECT_THAT(outcome.callee.error().context, HasSubstr("divides"));
}

TEST_F(Greet, AnotherNodeThanWasCalledIsRefused) {
  zero_.self = NodeId(2);
  EXPECT_THAT(greet().caller.error().context, HasSubstr("another number"));
}

TEST_F(Greet, WhoShouldHaveListenedIsRefused) {
  one_.self = NodeId(size_t{0});
  EXPECT_THAT(greet().callee.error().context, HasSubstr("another number"));
}

TEST_F(Greet, TheSecretIsNotSent) {
  auto calling = std::async(std::launch::async,
                            [this] { return greet_callee(one_, *caller_, NodeId(size_t{0}), Lane::kPages, soon()); });
  std::array<std::byte, wire::kNodeHelloBytes + wire::kNodeProofBytes> said{};
  ASSERT_TRUE(receive_all(*callee_, std::span(said).first<wire::kNodeHelloBytes>(), soon()).ok());
  std::array<std::byte, wire::kNodeHelloBytes> hello{};
  encode(wire::NodeHello{Lane::kPages, NodeId(size_t{0}), 7, 9, {}}, hello);
  ASSERT_TRUE(send_all(*callee_, hello, soon()).ok());
  ASSERT_TRUE(receive_all(*callee_, std::span(said).last<wire::kNodeProofBytes>(), soon()).ok());
  callee_.reset();
  EXPECT_FALSE(calling.get().ok());
  const std::span part = std::span(one_.secret).first<4>();
  EXPECT_EQ(std::search(said.begin(), said.end(), part.begin(), part.end()), said.end());
}

TEST_F(Greet, ItsOwnProofComingBackDoesNotConvinceACaller) {
  auto calling = std::async(std::launch::async,
                            [this] { return greet_callee(one_, *caller_, NodeId(size_t{0}), Lane::kPages, soon()); });
  std::array<std::byte, wire::kNodeHelloBytes> hello{};
  ASSERT_TRUE(receive_all(*callee_, hello, soon()).ok());
  hello[7] = std::byte{0};  // all the same, but for who speaks
  ASSERT_TRUE(send_all(*callee_, hello, soon()).ok());
  std::array<std::byte, wire::kNodeProofBytes> proof{};
  ASSERT_TRUE(receive_all(*callee_, proof, soon()).ok());
  ASSERT_TRUE(send_all(*callee_, proof, soon()).ok());
  EXPECT_EQ(calling.get().error().code, ErrorCode::kUntrusted);
}

TEST_F(Greet, ARecordedCallDoesNotConvinceTheNextTime) {
  // The whole of a good call, as its listener's other end heard it.
  std::array<std::byte, wire::kNodeHelloBytes> hello{}, answer{};
  std::array<std::byte, wire::kNodeProofBytes> proof{};
  auto [recorder, caller] = in_process_pair().value();
  auto calling = std::async(std::launch::async, [&, stream = caller.get()] {
    return greet_callee(one_, *stream, NodeId(size_t{0}), Lane::kPages, soon());
  });
  auto answering = std::async(std::launch::async, [this] { return answered(*callee_); });
  ASSERT_TRUE(receive_all(*recorder, hello, soon()).ok());
  ASSERT_TRUE(send_all(*caller_, hello, soon()).ok());
  ASSERT_TRUE(receive_all(*caller_, answer, soon()).ok());
  ASSERT_TRUE(send_all(*recorder, answer, soon()).ok());
  ASSERT_TRUE(receive_all(*recorder, proof, soon()).ok());
  ASSERT_TRUE(send_all(*caller_, proof, soon()).ok());
  EXPECT_TRUE(answering.get().ok());
  recorder.reset();
  (void)calling.get();

  auto [again, there] = in_process_pair().value();
  auto next = std::async(std::launch::async, [this, stream = there.get()] { return answered(*stream); });
  ASSERT_TRUE(send_all(*again, hello, soon()).ok());
  ASSERT_TRUE(receive_all(*again, answer, soon()).ok());
  ASSERT_TRUE(send_all(*again, proof, soon()).ok());
  EXPECT_THAT(next.get().error().context, HasSubstr("secret"));
}

// Two ends of a TLS connection, both shaken hands.
std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> tls_pair() {
  constexpr std::string_view kToken = "a-token-that-all-of-them-know";
  auto [host, donor] = in_process_pair().value();
  auto there = TlsStream::accept(TlsContext::donor_with_token(kToken).value(), std::move(donor), {});
  auto connecting = std::async(std::launch::async, [stream = std::move(host), kToken]() mutable {
    return TlsStream::connect(TlsContext::host_with_tokens().value(), std::move(stream), PskKey::of_token(kToken), "",
                              soon());
  });
  std::array<std::byte, 1> greeting{};
  auto heard = std::async(std::launch::async, [&] { return receive_all(*there, greeting, soon()).ok(); });
  auto here = connecting.get().value();
  EXPECT_TRUE(send_all(*here, greeting, soon()).ok());
  EXPECT_TRUE(heard.get());
  return {std::move(here), std::move(there)};
}

TEST_F(Greet, AProofHoldsForItsOwnTlsConnectionOnly) {
  std::tie(caller_, callee_) = tls_pair();
  const Outcome direct = greet();
  EXPECT_TRUE(direct.caller.ok());
  EXPECT_TRUE(direct.callee.ok());

  // Somebody with the token, but without the secret, between the two.
  auto [here, middle_in] = tls_pair();
  auto [middle_out, there] = tls_pair();
  auto answering = std::async(std::launch::async, [this, stream = there.get()] { return answered(*stream); });
  auto calling = std::async(std::launch::async, [this, stream = here.get()] {
    return greet_callee(one_, *stream, NodeId(size_t{0}), Lane::kPages, soon());
  });
  std::array<std::byte, wire::kNodeHelloBytes> hello{};
  std::array<std::byte, wire::kNodeProofBytes> proof{};
  ASSERT_TRUE(receive_all(*middle_in, hello, soon()).ok());
  ASSERT_TRUE(send_all(*middle_out, hello, soon()).ok());
  ASSERT_TRUE(receive_all(*middle_out, hello, soon()).ok());
  ASSERT_TRUE(send_all(*middle_in, hello, soon()).ok());
  ASSERT_TRUE(receive_all(*middle_in, proof, soon()).ok());
  ASSERT_TRUE(send_all(*middle_out, proof, soon()).ok());
  EXPECT_THAT(answering.get().error().context, HasSubstr("secret"));
  middle_in.reset();
  EXPECT_FALSE(calling.get().ok());
}

}  // namespace
}  // namespace hecaton::node
