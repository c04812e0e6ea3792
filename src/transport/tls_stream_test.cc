#include "transport/tls_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <deque>
#include <random>
#include <thread>

#include "base/random.h"

namespace hecaton {
namespace {

using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

constexpr int64_t kPatienceMs = 60'000;  // far beyond what anything takes
constexpr std::string_view kToken = "a-token-for-the-tests-of-tls";
constexpr std::string_view kPlainAnswer = "HECN: not without TLS";

// A stream that does to its bytes what a network may do: gives them in pieces, takes them in pieces, keeps a record.
class Rough final : public Stream {
 public:
  explicit Rough(std::unique_ptr<Stream> below) : below_(std::move(below)) {}
  IoResult receive(std::span<std::byte> into) override {
    const IoResult got = below_->receive(into.first(std::min(into.size(), most_received)));
    if (got.kind != IoResult::Kind::kBytes) return got;
    if (flips_at < got.bytes) into[flips_at] ^= std::byte{1};
    flips_at = flips_at < got.bytes || flips_at == SIZE_MAX ? SIZE_MAX : flips_at - got.bytes;
    heard.insert(heard.end(), into.begin(), into.begin() + static_cast<long>(got.bytes));
    return got;
  }
  IoResult send(std::span<const iovec> pieces) override {
    if (most_sent == 0) return {IoResult::Kind::kWouldBlock, 0};
    iovec part{pieces[0].iov_base, std::min(pieces[0].iov_len, most_sent)};
    ++sends;
    return below_->send(std::span(&part, 1));
  }
  int fd() const override { return below_->fd(); }
  bool finish_sending() override { return below_->finish_sending(); }

  size_t most_received = SIZE_MAX, most_sent = SIZE_MAX, sends = 0;
  size_t flips_at = SIZE_MAX;  // a bit of the byte that comes after so many
  Bytes heard;

 private:
  std::unique_ptr<Stream> below_;
};

struct Ends {
  std::unique_ptr<Rough> host, donor;
};

Ends rough_pair() {
  auto [a, b] = in_process_pair().value();
  return {std::make_unique<Rough>(std::move(a)), std::make_unique<Rough>(std::move(b))};
}

std::span<const std::byte> plain_answer() {
  return std::as_bytes(std::span(kPlainAnswer));
}

Bytes random_bytes(size_t count) {
  Bytes bytes(count);
  fill_random(bytes);
  return bytes;
}

// Receives until the stream ends or so many bytes are there.
Bytes receive_some(Stream& stream, size_t count) {
  Bytes bytes(count);
  Result<void> got = receive_all(stream, bytes, Deadline::after_ms(kPatienceMs));
  EXPECT_TRUE(got.ok()) << (got.ok() ? "" : got.error().describe());
  return bytes;
}

class TlsStreamTest : public testing::Test {
 protected:
  // Shakes hands, the donor's side on a thread. The streams below can be looked at.
  Result<std::unique_ptr<Stream>> connect(std::string_view token = kToken, Ends ends = rough_pair()) {
    below_host_ = ends.host.get();
    below_donor_ = ends.donor.get();
    donor_ = TlsStream::accept(donor_context_, std::move(ends.donor), plain_answer());
    std::atomic<bool> done{false};
    std::thread donor([&] {
      std::byte none;
      while (!done) EXPECT_NE(donor_->receive({&none, 0}).kind, IoResult::Kind::kBytes);
    });
    auto host = TlsStream::connect(host_context_, std::move(ends.host), PskKey::of_token(token), "donor",
                                   Deadline::after_ms(kPatienceMs));
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    done = true;
    donor.join();
    return host;
  }
  void connect_well() {
    auto host = connect();
    ASSERT_TRUE(host.ok()) << host.error().describe();
    host_ = std::move(host).value();
    ASSERT_TRUE(exchange(*host_, *donor_, random_bytes(1)));
    ASSERT_TRUE(exchange(*donor_, *host_, random_bytes(1)));
  }
  // Whether the bytes arrive as they were sent.
  static bool exchange(Stream& from, Stream& to, const Bytes& bytes) {
    std::thread sender([&] { EXPECT_TRUE(send_all(from, bytes, Deadline::after_ms(kPatienceMs)).ok()); });
    const Bytes got = receive_some(to, bytes.size());
    sender.join();
    return got == bytes;
  }

  std::shared_ptr<const TlsContext> host_context_ = TlsContext::host_with_tokens().value();
  std::shared_ptr<const TlsContext> donor_context_ = TlsContext::donor_with_token(kToken).value();
  Rough *below_host_ = nullptr, *below_donor_ = nullptr;
  std::unique_ptr<Stream> host_, donor_;
};

TEST_F(TlsStreamTest, CarriesBytesBothWaysAndNoneOfThemReadable) {
  connect_well();
  const std::string secret = "a page that nobody else may read";
  const auto bytes = std::as_bytes(std::span(secret));
  EXPECT_TRUE(exchange(*host_, *donor_, Bytes(bytes.begin(), bytes.end())));
  EXPECT_TRUE(exchange(*donor_, *host_, Bytes(bytes.begin(), bytes.end())));
  for (const Bytes& heard : {below_host_->heard, below_donor_->heard}) {
    EXPECT_EQ(std::search(heard.begin(), heard.end(), bytes.begin(), bytes.end()), heard.end());
    const auto token = std::as_bytes(std::span(kToken));
    EXPECT_EQ(std::search(heard.begin(), heard.end(), token.begin(), token.end()), heard.end());
  }
}

TEST_F(TlsStreamTest, AWrongTokenEndsTheHandshakeAndTheHostIsToldSo) {
  for (std::string_view wrong : {std::string_view("a-token-for-the-tests-of-tlS"), kToken.substr(1)}) {
    auto host = connect(wrong);
    ASSERT_FALSE(host.ok());
    EXPECT_EQ(host.error().code, ErrorCode::kUntrusted);
    EXPECT_THAT(host.error().context, HasSubstr("does not accept this token"));
    std::byte none;
    EXPECT_EQ(donor_->receive({&none, 1}).kind, IoResult::Kind::kClosed);
    EXPECT_NE(donor_->why_closed(), nullptr);
  }
}

TEST_F(TlsStreamTest, BytesArriveWholeIfTheyComeOneByOneInBothDirections) {
  Ends ends = rough_pair();
  for (Rough* end : {ends.host.get(), ends.donor.get()}) end->most_received = end->most_sent = 1;
  auto host = connect(kToken, std::move(ends));
  ASSERT_TRUE(host.ok()) << host.error().describe();
  host_ = std::move(host).value();
  EXPECT_TRUE(exchange(*host_, *donor_, random_bytes(40'000)));
  EXPECT_TRUE(exchange(*donor_, *host_, random_bytes(40'000)));
}

TEST_F(TlsStreamTest, LargeTransfersArriveWhole) {
  connect_well();
  EXPECT_TRUE(exchange(*host_, *donor_, random_bytes(20'000'000)));
  EXPECT_TRUE(exchange(*donor_, *host_, random_bytes(20'000'000)));
}

TEST_F(TlsStreamTest, AByteThatIsChangedOnTheWayEndsItAndNothingWrongIsReceived) {
  connect_well();
  const Bytes bytes = random_bytes(100'000);
  below_host_->flips_at = 70'000;
  ASSERT_TRUE(send_all(*donor_, bytes, Deadline::after_ms(kPatienceMs)).ok());
  Bytes got(bytes.size());
  const IoResult first = host_->receive(got);
  ASSERT_EQ(first.kind, IoResult::Kind::kBytes);
  EXPECT_LE(first.bytes, 70'000u);
  EXPECT_TRUE(std::equal(got.begin(), got.begin() + static_cast<long>(first.bytes), bytes.begin()));
  EXPECT_EQ(host_->receive(got).kind, IoResult::Kind::kClosed);
  EXPECT_EQ(host_->receive(got).kind, IoResult::Kind::kClosed);
}

TEST_F(TlsStreamTest, PiecesOfAllSizesArriveInTheirOrder) {
  connect_well();
  std::mt19937 random(static_cast<unsigned>(testing::UnitTest::GetInstance()->random_seed()));
  for (int round = 0; round < 30; ++round) {
    std::vector<Bytes> parts(1 + random() % 40);
    for (Bytes& part : parts) part = random_bytes(random() % 3 == 0 ? random() % 50'000 : random() % 100);
    Bytes whole;
    std::vector<iovec> pieces;
    for (Bytes& part : parts) {
      whole.insert(whole.end(), part.begin(), part.end());
      pieces.push_back({part.data(), part.size()});
    }
    if (whole.empty()) continue;
    std::thread sender([&] {
      std::span<iovec> rest(pieces);
      for (size_t left = whole.size(); left > 0;) {
        const IoResult sent = host_->send(rest);
        if (sent.kind != IoResult::Kind::kBytes) continue;
        left -= sent.bytes;
        for (size_t done = sent.bytes; done > 0 || (!rest.empty() && rest[0].iov_len == 0);) {
          const size_t step = std::min(done, rest[0].iov_len);
          rest[0].iov_base = static_cast<std::byte*>(rest[0].iov_base) + step;
          rest[0].iov_len -= step;
          done -= step;
          if (rest[0].iov_len == 0) rest = rest.subspan(1);
        }
      }
    });
    const Bytes got = receive_some(*donor_, whole.size());
    sender.join();
    ASSERT_EQ(got, whole) << round;
  }
}

TEST_F(TlsStreamTest, AShortReceiveHasEmptiedTheSocketAndAFullOneSaysThatThereMayBeMore) {
  connect_well();
  const Bytes bytes = random_bytes(50'000);
  ASSERT_TRUE(send_all(*donor_, bytes, Deadline::after_ms(kPatienceMs)).ok());
  Bytes got(20'000);
  ASSERT_EQ(host_->receive(got).bytes, got.size());
  EXPECT_TRUE(host_->holds_input());
  Bytes rest(100'000);
  ASSERT_EQ(host_->receive(rest).bytes, 30'000u);
  EXPECT_FALSE(host_->holds_input());
  char peeked;
  EXPECT_LT(recv(host_->fd(), &peeked, 1, MSG_PEEK | MSG_DONTWAIT), 0);
  EXPECT_EQ(host_->receive(rest).kind, IoResult::Kind::kWouldBlock);
}

TEST_F(TlsStreamTest, AHeadAndItsPageAreSentAtOnce) {
  connect_well();
  Bytes head = random_bytes(56), page = random_bytes(4096);
  below_donor_->sends = 0;
  std::array<iovec, 2> pieces{iovec{head.data(), head.size()}, iovec{page.data(), page.size()}};
  EXPECT_EQ(donor_->send(pieces).bytes, head.size() + page.size());
  EXPECT_EQ(below_donor_->sends, 1u);
  const Bytes got = receive_some(*host_, head.size() + page.size());
  EXPECT_TRUE(std::equal(page.begin(), page.end(), got.begin() + 56));
}

TEST_F(TlsStreamTest, WhatIsNotTakenIsSentOnceWhenItIsOfferedAgain) {
  connect_well();
  const Bytes bytes = random_bytes(100'000);
  iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
  below_host_->most_sent = 0;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(host_->send(std::span(&piece, 1)).kind, IoResult::Kind::kWouldBlock);
  below_host_->most_sent = 7777;
  EXPECT_TRUE(exchange(*host_, *donor_, bytes));
  EXPECT_EQ(host_->receive_events(), POLLIN);
}

TEST_F(TlsStreamTest, TwoThatBothHaveMoreToSendThanThereIsRoomForStillHearEachOther) {
  connect_well();
  const Bytes bytes = random_bytes(4 << 20);
  struct End {
    Stream& stream;
    size_t sent = 0;
    Bytes got = {};
  };
  End ends[2] = {{*host_}, {*donor_}};
  Bytes space(32 << 10);
  for (bool moved = true; moved;) {
    moved = false;
    for (bool sending : {true, false}) {
      for (End& end : ends) {
        iovec rest{const_cast<std::byte*>(bytes.data()) + end.sent, bytes.size() - end.sent};
        const IoResult done = !sending                  ? end.stream.receive(space)
                              : end.sent < bytes.size() ? end.stream.send(std::span(&rest, 1))
                                                        : IoResult{IoResult::Kind::kWouldBlock, 0};
        if (done.kind != IoResult::Kind::kBytes) continue;
        moved = true;
        if (sending) end.sent += done.bytes;
        if (!sending) end.got.insert(end.got.end(), space.begin(), space.begin() + static_cast<long>(done.bytes));
      }
    }
  }
  for (const End& end : ends) EXPECT_TRUE(end.got == bytes) << end.got.size() << " bytes came";
}

TEST_F(TlsStreamTest, OneSideCanFinishAndStillReceive) {
  connect_well();
  ASSERT_TRUE(host_->finish_sending());
  std::byte none;
  EXPECT_EQ(donor_->receive({&none, 1}).kind, IoResult::Kind::kClosed);
  EXPECT_TRUE(exchange(*donor_, *host_, random_bytes(30'000)));
  ASSERT_TRUE(donor_->finish_sending());
  EXPECT_EQ(host_->receive({&none, 1}).kind, IoResult::Kind::kClosed);
}

TEST_F(TlsStreamTest, KeysAreRenewedOnTheWayAndOften) {
  auto host = std::const_pointer_cast<TlsContext>(host_context_);
  auto donor = std::const_pointer_cast<TlsContext>(donor_context_);
  host->set_records_per_key_for_tests(3);
  donor->set_records_per_key_for_tests(2);
  connect_well();
  for (int round = 0; round < 200; ++round) {
    ASSERT_TRUE(exchange(*host_, *donor_, random_bytes(2000))) << round;
    ASSERT_TRUE(exchange(*donor_, *host_, random_bytes(70'000))) << round;
  }
}

// A donor as an attacker meets it: what he sends, it hears.
class Attack : public TlsStreamTest {
 protected:
  void SetUp() override {
    auto [mine, theirs] = in_process_pair().value();
    mine_ = std::move(mine);
    donor_ = TlsStream::accept(donor_context_, std::move(theirs), plain_answer());
  }
  void say(const Bytes& bytes) { (void)send_all(*mine_, bytes, Deadline::after_ms(kPatienceMs)).ok(); }
  // What the donor makes of it: bytes it takes for a host's, or none.
  IoResult::Kind outcome() {
    Bytes space(1000);
    return donor_->receive(space).kind;
  }
  std::string answer() {
    Bytes space(1000);
    const IoResult got = mine_->receive(space);
    return got.kind == IoResult::Kind::kBytes ? std::string(reinterpret_cast<char*>(space.data()), got.bytes) : "";
  }
  std::unique_ptr<Stream> mine_;
};

// All that a host sent in a session with a request.
Bytes recorded_session(const std::shared_ptr<const TlsContext>& host_context,
                       const std::shared_ptr<const TlsContext>& donor_context) {
  Ends ends = rough_pair();
  Rough* below = ends.donor.get();
  auto donor = TlsStream::accept(donor_context, std::move(ends.donor), plain_answer());
  Bytes got(100);
  std::thread serving([&] { EXPECT_TRUE(receive_all(*donor, got, Deadline::after_ms(kPatienceMs)).ok()); });
  auto host = TlsStream::connect(host_context, std::move(ends.host), PskKey::of_token(kToken), "donor",
                                 Deadline::after_ms(kPatienceMs));
  EXPECT_TRUE(host.ok());
  EXPECT_TRUE(send_all(**host, random_bytes(100), Deadline::after_ms(kPatienceMs)).ok());
  serving.join();
  return below->heard;
}

TEST_F(Attack, ARecordedSessionSaysNothingASecondTime) {
  const Bytes session = recorded_session(host_context_, donor_context_);
  say(session);
  EXPECT_NE(outcome(), IoResult::Kind::kBytes);
  EXPECT_NE(outcome(), IoResult::Kind::kBytes);
  EXPECT_NE(donor_->why_closed(), nullptr);  // it was turned away
}

TEST_F(Attack, ChangedOrCutBytesOfASessionAreNeverTaken) {
  const Bytes session = recorded_session(host_context_, donor_context_);
  std::mt19937 random(static_cast<unsigned>(testing::UnitTest::GetInstance()->random_seed()));
  for (int round = 0; round < 200; ++round) {
    SetUp();
    Bytes changed = session;
    changed[random() % changed.size()] ^= static_cast<std::byte>(1 + random() % 255);
    if (round % 3 == 0) changed.resize(1 + random() % changed.size());
    say(changed);
    mine_->finish_sending();
    for (int i = 0; i < 3; ++i) EXPECT_NE(outcome(), IoResult::Kind::kBytes);
  }
}

TEST_F(Attack, APlainHelloIsAnsweredInPlainWords) {
  say(Bytes{std::byte{'H'}, std::byte{'E'}, std::byte{'C'}, std::byte{'N'}, std::byte{2}});
  EXPECT_EQ(outcome(), IoResult::Kind::kWouldBlock);  // until it hangs up
  EXPECT_EQ(answer(), kPlainAnswer);
  say(random_bytes(5000));
  EXPECT_EQ(outcome(), IoResult::Kind::kWouldBlock);
  mine_.reset();
  EXPECT_EQ(outcome(), IoResult::Kind::kClosed);
}

TEST_F(Attack, NothingIsSentToThosePeersThatNeverProvedAnything) {
  iovec piece{const_cast<char*>(kPlainAnswer.data()), kPlainAnswer.size()};
  EXPECT_EQ(donor_->send(std::span(&piece, 1)).kind, IoResult::Kind::kWouldBlock);
  EXPECT_EQ(answer(), "");
}

TEST_F(Attack, OlderVersionsAndHostsWithoutTheTokenAreTurnedAway) {
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    SetUp();
    std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    SSL_CTX_set_max_proto_version(context.get(), version);
    std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), SSL_free);
    SSL_set_fd(ssl.get(), mine_->fd());
    EXPECT_LT(SSL_connect(ssl.get()), 1);
    EXPECT_NE(outcome(), IoResult::Kind::kBytes);
    EXPECT_NE(donor_->why_closed(), nullptr);
    EXPECT_LT(SSL_connect(ssl.get()), 1);
  }
}

// The other way round: who answers a host.
TEST_F(TlsStreamTest, AHostWithATokenTrustsNobodyWhoDoesNotKnowIt) {
  donor_context_ = TlsContext::donor_with_token("another-token-of-an-impostor").value();
  auto host = connect();
  ASSERT_FALSE(host.ok());
  EXPECT_EQ(host.error().code, ErrorCode::kUntrusted);
}

TEST_F(TlsStreamTest, ADonorWithoutTlsIsNamedAsOne) {
  auto [ours, theirs] = in_process_pair().value();
  const std::string refusal = "HECN\x02 malformed";
  ASSERT_TRUE(send_all(*theirs, std::as_bytes(std::span(refusal)), Deadline::after_ms(kPatienceMs)).ok());
  auto host = TlsStream::connect(host_context_, std::move(ours), PskKey::of_token(kToken), "donor",
                                 Deadline::after_ms(kPatienceMs));
  ASSERT_FALSE(host.ok());
  EXPECT_EQ(host.error().code, ErrorCode::kUntrusted);
  EXPECT_THAT(host.error().context, HasSubstr("does not use TLS"));
}

TEST_F(TlsStreamTest, ADonorThatSaysNothingIsGivenUpInTime) {
  auto [ours, theirs] = in_process_pair().value();
  auto host =
      TlsStream::connect(host_context_, std::move(ours), PskKey::of_token(kToken), "donor", Deadline::after_ms(20));
  ASSERT_FALSE(host.ok());
  EXPECT_EQ(host.error().code, ErrorCode::kTimeout);
}

TEST(PskKey, DependsOnEveryCharacterOfTheToken) {
  auto key = [](std::string_view token) {
    PskKey made = PskKey::of_token(token);
    return std::string(reinterpret_cast<const char*>(made.data()), PskKey::kBytes);
  };
  EXPECT_EQ(key(kToken), key(kToken));
  EXPECT_NE(key(kToken), key(kToken.substr(1)));
}

}  // namespace
}  // namespace hecaton
