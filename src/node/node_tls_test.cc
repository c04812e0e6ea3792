// Nodes whose connections are TLS, with tokens and with certificates, and strangers at their doors.
#include <gmock/gmock.h>

#include "base/sanitized_for_tests.h"
#include "node/cluster_for_tests.h"
#include "node/greeting.h"
#include "transport/certificates_for_tests.h"

namespace hecaton::node {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kToken = "a-token-of-all-nodes-of-the-vm";
constexpr std::string_view kOtherToken = "a-token-of-some-other-machine";

Credentials with_token(std::string_view token) {
  std::string problem;
  return Credentials::make(std::string(token), {}, &problem).value();
}

void use_token(NodeConfig& config) {
  config.credentials = with_token(kToken);
  config.trust = TlsContext::donor_with_token(kToken).value();
}

void use_certificates(NodeConfig& config, const CertificateFiles& files) {
  std::string problem;
  auto credentials = Credentials::make("", files, &problem);
  ASSERT_TRUE(credentials.ok()) << problem;
  config.credentials = *credentials;
  auto trust = TlsContext::with_certificates(TlsContext::Side::kDonor, files, &problem);
  ASSERT_TRUE(trust.ok()) << problem;
  config.trust = *trust;
}

// What a user reads of nodes has no words that are meant for donors, nor options of their programs.
auto speaks_of_nodes() {
  return AllOf(HasSubstr("node"), Not(HasSubstr("donor")), Not(HasSubstr("hecatond")), Not(HasSubstr("--t")));
}

void expect_one_memory(Cluster& nodes) {
  constexpr uint64_t kEach = kSanitized ? 500 : 5'000;
  nodes.at_all([&](size_t node) {
    for (uint64_t i = 0; i < kEach; ++i) nodes.word(node, 0).fetch_add(1);
  });
  uint64_t pages_sent = 0;
  for (size_t node = 0; node < nodes.size(); ++node) {
    EXPECT_EQ(nodes.word(node, 0).load(), nodes.size() * kEach);
    pages_sent += nodes[node].stats().pages_sent;
  }
  EXPECT_GT(pages_sent, 0u);
}

TEST(NodeTls, PagesFlowBetweenNodesWithAToken) {
  Cluster nodes({1, 1, 1}, use_token);
  expect_one_memory(nodes);
}

TEST(NodeTls, PagesFlowBetweenNodesWithCertificates) {
  AuthorityForTests authority;
  const CertificateFiles files = authority.sign("node", "IP:127.0.0.1");
  Cluster nodes({1, 1, 1}, [&](NodeConfig& config) { use_certificates(config, files); });
  expect_one_memory(nodes);
}

TEST(NodeTls, ManyThreadsOfBothNodesGetTheirPages) {
  constexpr size_t kThreads = 12;
  constexpr uint64_t kPagesEach = 64;
  Cluster nodes({kThreads * kPagesEach, 1}, [](NodeConfig& config) {
    use_token(config);
    config.processors = kThreads;
  });
  for (uint64_t round = 1; round <= 2; ++round) {
    nodes.at_all([&](size_t node) {
      std::vector<std::thread> threads;
      for (size_t t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
          for (uint64_t i = 0; i < kPagesEach; ++i) nodes.word(node, t * kPagesEach + i).fetch_add(1);
        });
      }
      for (std::thread& thread : threads) thread.join();
    });
  }
  for (uint64_t page = 0; page < kThreads * kPagesEach; ++page) EXPECT_EQ(nodes.word(0, page).load(), 4u);
}

// Node 0 of two, which wants TLS with `trust`; strangers try to be node 1.
class TlsDoor : public testing::Test {
 protected:
  TlsDoor() : listener_(listen_on_loopback()) {
    config_.nodes = {listener_.address(), listener_.address()};
    config_.pages = {1, 1};
    config_.start_ms = 20'000;
  }
  // What node 1 is told if it comes with that; node 0 waits on, and then takes one that is right.
  std::string told(const std::function<void(NodeConfig&)>& right, const std::function<void(NodeConfig&)>& stranger) {
    NodeConfig zero = config_, wrong = config_, one = config_;
    right(zero);
    right(one);
    stranger(wrong);
    wrong.self = one.self = NodeId(1);
    std::unique_ptr<Node> first;
    std::thread start([&] { first = Node::start(zero, std::move(listener_)).value(); });
    std::string problem;
    auto refused = Node::start(wrong, listen_on_loopback(), &problem);
    EXPECT_FALSE(refused.ok());
    auto second = Node::start(one, listen_on_loopback());
    EXPECT_TRUE(second.ok());
    start.join();
    EXPECT_THAT(problem, speaks_of_nodes());
    return problem;
  }

  TcpListener listener_;  // until node 0 is started
  NodeConfig config_;
};

TEST_F(TlsDoor, AStrangerWithAnotherTokenIsTurnedAway) {
  const std::string problem = told(use_token, [](NodeConfig& config) { config.credentials = with_token(kOtherToken); });
  EXPECT_THAT(problem, HasSubstr("node 0 at " + config_.nodes[0].printable()));
  EXPECT_THAT(problem, HasSubstr("it does not accept this token: give all nodes"));
}

TEST_F(TlsDoor, AStrangerWithATokenWhereCertificatesAreWantedIsTurnedAway) {
  AuthorityForTests authority;
  const CertificateFiles files = authority.sign("node", "IP:127.0.0.1");
  EXPECT_THAT(told([&](NodeConfig& config) { use_certificates(config, files); },
                   [](NodeConfig& config) { config.credentials = with_token(kToken); }),
              HasSubstr("it wants certificates"));
}

TEST_F(TlsDoor, AStrangerWithCertificatesWhereATokenIsWantedIsTurnedAway) {
  AuthorityForTests authority;
  const CertificateFiles files = authority.sign("node", "IP:127.0.0.1");
  EXPECT_THAT(told(use_token, [&](NodeConfig& config) { use_certificates(config, files); }),
              HasSubstr("it wants a token"));
}

// Which hangs up: a handshake is no greeting.
TEST_F(TlsDoor, ANodeDoesNotTalkToOneWithoutTls) {
  config_.start_ms = 500;
  NodeConfig one = config_;
  use_token(one);
  one.self = NodeId(1);
  std::thread start([&] { EXPECT_FALSE(Node::start(config_, std::move(listener_)).ok()); });
  std::string problem;
  EXPECT_FALSE(Node::start(one, listen_on_loopback(), &problem).ok());
  start.join();
  EXPECT_THAT(problem, speaks_of_nodes());
}

TEST_F(TlsDoor, ANodeThatTurnedACallerWithoutTlsAwaySaysSoInItsOwnWords) {
  NodeConfig zero = config_, plain = config_;
  use_token(zero);
  plain.self = NodeId(1);
  std::string problem;
  // As long as a busy machine takes to hear the caller out.
  for (int64_t ms = 500; ms < 20'000 && problem.find("turned away") == problem.npos; ms *= 2) {
    zero.start_ms = plain.start_ms = ms;
    listener_ = listen_on_loopback();
    zero.nodes[0] = plain.nodes[0] = listener_.address();
    std::thread start([&] { EXPECT_FALSE(Node::start(zero, std::move(listener_), &problem).ok()); });
    EXPECT_FALSE(Node::start(plain, listen_on_loopback()).ok());
    start.join();
  }
  EXPECT_THAT(problem, HasSubstr("turned away last"));
  EXPECT_THAT(problem, HasSubstr("it does not use TLS"));
  EXPECT_THAT(problem, speaks_of_nodes());
}

TEST_F(TlsDoor, AStrangerWithoutTlsIsTurnedAway) {
  EXPECT_THAT(told(use_token, [](NodeConfig&) {}), HasSubstr("it wants TLS"));
}

TEST_F(TlsDoor, AStrangerWithACertificateOfAnotherAuthorityIsTurnedAway) {
  AuthorityForTests authority, other;
  const CertificateFiles right = authority.sign("node", "IP:127.0.0.1");
  CertificateFiles wrong = other.sign("node", "IP:127.0.0.1");
  wrong.authority = right.authority;  // it does trust node 0
  const std::string problem = told([&](NodeConfig& config) { use_certificates(config, right); },
                                   [&](NodeConfig& config) { use_certificates(config, wrong); });
  EXPECT_THAT(problem, HasSubstr("certificate"));
}

TEST_F(TlsDoor, ANodeDoesNotTalkToOneWhoseCertificateIsForAnotherAddress) {
  AuthorityForTests authority;
  const CertificateFiles elsewhere = authority.sign("node", "IP:192.0.2.1");
  NodeConfig zero = config_, one = config_;
  use_certificates(zero, elsewhere);
  use_certificates(one, elsewhere);
  one.self = NodeId(1);
  std::string problem;
  ErrorCode code = ErrorCode::kTimeout;
  // As long as a busy machine takes for the handshake.
  for (int64_t ms = 500; ms < 20'000 && code == ErrorCode::kTimeout; ms *= 2) {
    zero.start_ms = one.start_ms = ms;
    listener_ = listen_on_loopback();
    zero.nodes[0] = one.nodes[0] = listener_.address();
    std::thread start([&] { EXPECT_FALSE(Node::start(zero, std::move(listener_)).ok()); });
    code = Node::start(one, listen_on_loopback(), &problem).error().code;
    start.join();
  }
  EXPECT_EQ(code, ErrorCode::kUntrusted);
  EXPECT_THAT(problem, HasSubstr("certificate"));
  EXPECT_THAT(problem, speaks_of_nodes());
}

TEST_F(TlsDoor, ATokenAloneIsNotEnoughWithoutTheVmsSecret) {
  const std::string problem = told(use_token, [](NodeConfig& config) {
    use_token(config);
    config.secret[0] = std::byte{1};
  });
  EXPECT_THAT(problem, HasSubstr("secret"));
}

}  // namespace
}  // namespace hecaton::node
