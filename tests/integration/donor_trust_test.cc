// Who gets in at a hecatond with a token or certificates, and what strangers can do to it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <random>

#include "base/sanitized_for_tests.h"
#include "donor_process.h"
#include "transport/certificates_for_tests.h"
#include "wire/token.h"

namespace hecaton::donor {
namespace {

using testing::HasSubstr;
using testing::Not;
using wire::Operation;
using wire::Status;

Deadline patience() {
  return Deadline::after_ms(kPatienceMs);
}

class DonorTrust : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "hecaton-trust-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string token_file() const { return folder_ + "/token"; }
  std::string token() const {
    std::string word;
    std::ifstream(token_file()) >> word;
    return word;
  }
  DonorSpec with_token() const { return {.more = {"--token-file", token_file(), "--grace", "0"}, .pairs = true}; }
  void write_token(const std::string& content, mode_t mode = 0600) const {
    std::ofstream(token_file()) << content;
    ASSERT_EQ(chmod(token_file().c_str(), mode), 0);
  }
  static Host host_at(const NodeUrl& url) { return Host(connect_to(url, Credentials(), patience()).value()); }
  static Error refusal_at(const NodeUrl& url, const Credentials& credentials = {}) {
    auto stream = connect_to(url, credentials, patience());
    EXPECT_FALSE(stream.ok());
    return stream.ok() ? Error{ErrorCode::kSystem, 0, ""} : stream.error();
  }
  static void expect_works(const NodeUrl& url, const std::string& vm = "vm") {
    Host host = host_at(url);
    host.open(vm);
    EXPECT_EQ(host.ask(write_frame(1, pages_from(0, 256), 1)).status(), Status::kOk);
    EXPECT_TRUE(holds_true_pages(host.ask(read_frame(1, pages_from(0, 256)))));
  }

  std::string folder_;
};

TEST_F(DonorTrust, ATokenIsMadePrintedForHostsAndKept) {
  NodeUrl first;
  {
    Donor donor(with_token());
    struct stat info;
    ASSERT_EQ(stat(token_file().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
    EXPECT_GE(token().size(), 22u);  // 128 bits in six of them each
    EXPECT_EQ(donor.pairing().token, token());
    EXPECT_EQ(donor.pairing().printable(), donor.address().printable());
    expect_works(donor.pairing());
    first = donor.pairing();
    donor.program().signal(SIGTERM);
    Ended ended = donor.program().end();
    EXPECT_EQ(ended.exit_status, 0);
    EXPECT_EQ(ended.err, "");
  }
  Donor again(with_token());
  EXPECT_EQ(again.pairing().token, first.token);
}

TEST_F(DonorTrust, WhereItListensOnAnyAddressHostsAreToldOne) {
  DonorSpec spec = with_token();
  spec.listen = "0.0.0.0:0";
  Donor donor(spec);
  EXPECT_EQ(donor.pairing().port, donor.address().port);
  EXPECT_EQ(donor.pairing().token, token());
  NodeUrl here = donor.pairing();
  here.host = "127.0.0.1";
  expect_works(here);
}

TEST_F(DonorTrust, TokenFilesThatOthersCanReadAndWeakTokensAreRefused) {
  struct Case {
    std::string content;
    mode_t mode;
    const char* says;
  };
  for (const Case& wrong : {Case{make_token(), 0644, "chmod 600 "}, Case{make_token(), 0620, "chmod 600 "},
                            Case{"tooshort", 0600, "fewer than 20"}, Case{"", 0600, "there is no token"},
                            Case{make_token() + " " + make_token(), 0600, "one word"}}) {
    write_token(wrong.content, wrong.mode);
    Ended ended = run_hecatond({"--size", "1M", "--listen", "127.0.0.1:0", "--token-file", token_file()});
    EXPECT_EQ(ended.exit_status, 2);
    EXPECT_EQ(ended.out, "");
    EXPECT_THAT(ended.err, HasSubstr(wrong.says));
    EXPECT_THAT(ended.err, HasSubstr(token_file()));
    if (wrong.content.empty()) continue;
    EXPECT_THAT(ended.err, Not(HasSubstr(wrong.content)));
  }
}

TEST_F(DonorTrust, OptionsThatContradictEachOtherAreRefused) {
  const std::vector<std::string> base = {"--size", "1M", "--listen", "127.0.0.1:0"};
  struct Case {
    std::vector<std::string> more;
    const char* says;
  };
  for (const Case& wrong : {Case{{"--token-file", token_file(), "--insecure"}, "choose one"},
                            Case{{"--token-file", token_file(), "--rdma", "on"}, "RDMA is not encrypted"},
                            Case{{"--token-file", token_file(), "--tls-ca", "x"}, "choose one"},
                            Case{{"--tls-cert", "x", "--tls-key", "y"}, "all three"},
                            Case{{"--tls-cert", "/no/such", "--tls-key", "y", "--tls-ca", "z"}, "/no/such"}}) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), wrong.more.begin(), wrong.more.end());
    Ended ended = run_hecatond(arguments);
    EXPECT_EQ(ended.exit_status, 2) << wrong.says;
    EXPECT_THAT(ended.err, HasSubstr(wrong.says));
  }
}

TEST_F(DonorTrust, AHostWithAnotherTokenOrNoneIsRefusedInWords) {
  Donor donor(with_token());
  NodeUrl wrong = donor.pairing();
  wrong.token = make_token();
  Error refused = refusal_at(wrong);
  EXPECT_EQ(refused.code, ErrorCode::kUntrusted);
  EXPECT_THAT(refused.context, HasSubstr("does not accept this token"));
  Host plain(donor.address());
  Reply reply = plain.ask(hello_frame());
  EXPECT_EQ(reply.status(), Status::kRefused);
  EXPECT_THAT(reply.text(), HasSubstr("hecaton://TOKEN@HOST:PORT"));
  EXPECT_THAT(reply.text(), Not(HasSubstr(token())));
  expect_works(donor.pairing());
  eventually([&] { return donor.stat().regions == 0; });
}

TEST_F(DonorTrust, AHostWithATokenIsToldOfADonorWithout) {
  Donor donor;
  NodeUrl url = donor.address();
  url.token = make_token();
  Error refused = refusal_at(url);
  EXPECT_EQ(refused.code, ErrorCode::kUntrusted);
  EXPECT_THAT(refused.context, HasSubstr("does not use TLS"));
  EXPECT_EQ(donor.stat().regions, 0u);
}

TEST_F(DonorTrust, CertificatesOfOneAuthorityOpenItAndNothingElseDoes) {
  AuthorityForTests authority, stranger;
  const CertificateFiles donors = authority.sign("donor", "IP:127.0.0.1");
  Donor donor({.more = {"--tls-cert", donors.certificate, "--tls-key", donors.key, "--tls-ca", donors.authority}});
  std::string problem;
  auto good = Credentials::make("", authority.sign("host", "DNS:host"), &problem).value();
  Host host(connect_to(donor.address(), good, patience()).value());
  host.open("vm");
  EXPECT_EQ(host.ask(write_frame(1, pages_from(0, 10), 1)).status(), Status::kOk);
  CertificateFiles foreign = stranger.sign("host", "DNS:host");
  foreign.authority = authority.authority();
  auto stream = connect_to(donor.address(), Credentials::make("", foreign, &problem).value(), patience());
  ASSERT_TRUE(stream.ok());  // the donor speaks last
  Host turned_away(std::move(stream).value());
  (void)turned_away.say(hello_frame()).ok();
  Result<Reply> reply = turned_away.reply();
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().code, ErrorCode::kUntrusted);
  NodeUrl with_token = donor.address();
  with_token.token = make_token();
  EXPECT_THAT(refusal_at(with_token).context, HasSubstr("it wants certificates"));
  EXPECT_EQ(Host(donor.address()).ask(hello_frame()).status(), Status::kRefused);
}

// A stream that keeps what is sent.
class Recorder final : public Stream {
 public:
  Recorder(std::unique_ptr<Stream> below, Bytes& sent) : below_(std::move(below)), sent_(sent) {}
  IoResult receive(std::span<std::byte> into) override { return below_->receive(into); }
  IoResult send(std::span<const iovec> pieces) override {
    const IoResult result = below_->send(pieces.first(1));
    const auto* first = static_cast<const std::byte*>(pieces[0].iov_base);
    if (result.kind == IoResult::Kind::kBytes) sent_.insert(sent_.end(), first, first + result.bytes);
    return result;
  }
  int fd() const override { return below_->fd(); }
  bool finish_sending() override { return below_->finish_sending(); }

 private:
  std::unique_ptr<Stream> below_;
  Bytes& sent_;
};

TEST_F(DonorTrust, ARecordedSessionOpensNothingASecondTime) {
  Donor donor(with_token());
  Bytes session;
  {
    auto tcp = std::make_unique<Recorder>(connect_tcp(donor.address(), patience()).value(), session);
    Host host(Credentials().secure(std::move(tcp), donor.pairing(), patience()).value());
    host.open("recorded");
    EXPECT_EQ(host.ask(write_frame(1, pages_from(0, 5), 1)).status(), Status::kOk);
  }
  eventually([&] { return donor.stat().regions == 0; });
  Host replay(donor.address());
  (void)replay.say(session).ok();
  Bytes answer(100'000);
  Result<void> all = receive_all(replay.stream(), answer, patience());
  ASSERT_FALSE(all.ok());
  EXPECT_EQ(all.error().code, ErrorCode::kClosed);  // it was turned away, soon
  EXPECT_EQ(donor.stat().regions, 0u);
}

TEST_F(DonorTrust, AFloodOfConnectionsThatGoNowhereKeepsNoHostOut) {
  raise_file_limit();
  Donor donor(with_token());
  Host before = host_at(donor.pairing());
  before.open("before");
  const uint64_t quiet_kib = donor.status("RssAnon");
  std::vector<std::unique_ptr<Host>> flood;
  const Bytes half_a_hello = {std::byte{22}, std::byte{3}, std::byte{1}, std::byte{2}, std::byte{0}, std::byte{1}};
  for (int i = 0; i < 1500; ++i) {
    flood.push_back(std::make_unique<Host>(donor.address()));
    if (i % 2 == 0) (void)flood.back()->say(half_a_hello).ok();
    if (i % 300 == 0) expect_works(donor.pairing(), "during");
  }
  EXPECT_TRUE(flood.front()->is_closed());  // the oldest had to go
  eventually([&] { return donor.stat().connections <= 256 + 2; });
  expect_works(donor.pairing(), "after");
  EXPECT_EQ(before.ask(write_frame(1, pages_from(0, 10), 1)).status(), Status::kOk);
  if (kSanitized) return;
  EXPECT_LT(donor.status("RssAnon"), quiet_kib + 48 * 1024);
}

TEST_F(DonorTrust, GarbageAndPortScannersDisturbNobody) {
  Donor donor(with_token());
  Host good = host_at(donor.pairing());
  good.open("vm");
  good.ask(write_frame(1, pages_from(0, 10), 1));
  std::mt19937 random(static_cast<unsigned>(testing::UnitTest::GetInstance()->random_seed()));
  for (int i = 0; i < 300; ++i) {
    Host scanner(donor.address());
    Bytes garbage(1 + random() % 5000);
    for (std::byte& b : garbage) b = static_cast<std::byte>(random());
    if (i % 3 == 0) garbage[0] = std::byte{22};  // looks like TLS
    (void)scanner.say(garbage).ok();
  }
  EXPECT_TRUE(holds_true_pages(good.ask(read_frame(1, pages_from(0, 10)))));
  eventually([&] { return donor.stat().connections == 2; });
}

TEST_F(DonorTrust, ALengthOfFourGibibytesIsRefusedAndCostsNoMemory) {
  Donor donor(with_token());
  Host host = host_at(donor.pairing());
  EXPECT_EQ(host.ask(hello_frame()).status(), Status::kOk);
  const uint64_t before_kib = donor.status("VmSize");
  Bytes frame = write_frame(1, pages_from(0, 1), 1);
  for (size_t i = 8; i < 12; ++i) frame[i] = std::byte{0xff};  // the length of the body
  Reply reply = host.ask(Bytes(frame.begin(), frame.begin() + wire::kHeaderBytes));
  EXPECT_EQ(reply.status(), Status::kMalformed);
  EXPECT_LT(donor.status("VmSize"), before_kib + 100 * 1024);
  expect_works(donor.pairing());
}

TEST_F(DonorTrust, OneVmCannotHaveAllConnections) {
  raise_file_limit();
  Donor donor;
  std::vector<std::unique_ptr<Host>> hosts;
  Status last = Status::kOk;
  std::string words;
  for (int i = 0; i < 1100 && last == Status::kOk; ++i) {
    hosts.push_back(std::make_unique<Host>(donor.address()));
    hosts.back()->ask(hello_frame());
    Reply reply = hosts.back()->ask(open_frame(region_named("greedy", 64_MiB, 8_MiB)));
    last = reply.status();
    words = reply.text();
  }
  EXPECT_EQ(last, Status::kResources);
  EXPECT_THAT(words, HasSubstr("connections"));
  expect_works(donor.address(), "modest");
}

TEST_F(DonorTrust, TheTokenIsNeitherInArgumentsNorInTheLog) {
  Donor donor({.more = {"--token-file", token_file()}, .before = "export HECATON_LOG=debug", .pairs = true});
  expect_works(donor.pairing());
  NodeUrl wrong = donor.pairing();
  wrong.token = (token().front() == 'W' ? "X" : "W") + token().substr(1);
  refusal_at(wrong);
  const std::string process = "/proc/" + std::to_string(donor.program().pid());
  for (const char* part : {"/cmdline", "/environ"}) {
    std::stringstream text;
    text << std::ifstream(process + part).rdbuf();
    EXPECT_THAT(text.str(), Not(HasSubstr(token())));
  }
  donor.program().signal(SIGTERM);
  Ended ended = donor.program().end();
  EXPECT_THAT(ended.err, HasSubstr("turned away"));
  EXPECT_THAT(ended.err, Not(HasSubstr(token().substr(1))));
}

}  // namespace
}  // namespace hecaton::donor
