// TLS with certificates on both sides.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "transport/certificates_for_tests.h"
#include "transport/tls_stream.h"

namespace hecaton {
namespace {

using testing::HasSubstr;

constexpr int64_t kPatienceMs = 60'000;

struct Outcome {
  Error host{ErrorCode::kSystem, 0, ""};
  bool host_ok = false;   // its handshake
  bool donor_ok = false;  // a byte of the host reached it
};

class TlsCertificates : public testing::Test {
 protected:
  static std::shared_ptr<const TlsContext> context(TlsContext::Side side, const CertificateFiles& files) {
    std::string problem;
    auto made = TlsContext::with_certificates(side, files, &problem);
    EXPECT_TRUE(made.ok()) << problem;
    return std::move(made).value();
  }
  // What becomes of a connection on which the host sends a byte and waits for the donor's.
  static Outcome meet(std::shared_ptr<const TlsContext> host, std::shared_ptr<const TlsContext> donor,
                      const std::string& name, std::optional<PskKey> key = std::nullopt) {
    auto [near, far] = in_process_pair().value();
    Outcome outcome;
    auto served = TlsStream::accept(std::move(donor), std::move(far), {});
    std::atomic<bool> over{false};
    std::thread serving([&] {
      std::byte got;
      iovec answer{&got, 1};
      while (!over) {
        const IoResult heard = served->receive({&got, 1});
        if (heard.kind == IoResult::Kind::kClosed) break;
        if (heard.kind == IoResult::Kind::kBytes) outcome.donor_ok = served->send({&answer, 1}).bytes == 1;
      }
    });
    const Deadline by = Deadline::after_ms(kPatienceMs);
    auto stream = TlsStream::connect(std::move(host), std::move(near), std::move(key), name, by);
    outcome.host_ok = stream.ok();
    if (!stream.ok()) outcome.host = stream.error();
    if (stream.ok()) {
      std::byte byte{1};
      (void)send_all(**stream, {&byte, 1}, by).ok();
      Result<void> answered = receive_all(**stream, {&byte, 1}, by);
      if (!answered.ok()) outcome.host = answered.error();
    }
    stream = Error{ErrorCode::kClosed, 0, ""};
    over = true;
    serving.join();
    return outcome;
  }

  AuthorityForTests ours_, others_;
  std::shared_ptr<const TlsContext> host_ = context(TlsContext::Side::kHost, ours_.sign("host", "DNS:host"));
  std::shared_ptr<const TlsContext> donor_ =
      context(TlsContext::Side::kDonor, ours_.sign("donor", "DNS:donor.example,IP:192.0.2.7,IP:2001:db8::7"));
};

TEST_F(TlsCertificates, BothSidesOfOneAuthorityMeetByNameOrAddress) {
  for (const char* name : {"donor.example", "192.0.2.7", "2001:db8::7"}) {
    Outcome outcome = meet(host_, donor_, name);
    EXPECT_TRUE(outcome.host_ok && outcome.donor_ok) << name << ": " << outcome.host.context;
  }
}

TEST_F(TlsCertificates, ADonorUnderAnotherNameIsNotTrusted) {
  for (const char* name : {"example", "evil.example", "192.0.2.8", "2001:db8::8", "localhost"}) {
    Outcome outcome = meet(host_, donor_, name);
    EXPECT_FALSE(outcome.host_ok || outcome.donor_ok) << name;
    EXPECT_EQ(outcome.host.code, ErrorCode::kUntrusted);
    EXPECT_THAT(outcome.host.context, HasSubstr("--tls-ca"));
  }
}

TEST_F(TlsCertificates, ADonorOfAnotherAuthorityOrOutOfDateIsNotTrusted) {
  CertificateFiles foreign = others_.sign("donor", "DNS:donor.example");
  foreign.authority = ours_.authority();
  for (const CertificateFiles& files : {foreign, ours_.sign("old", "DNS:donor.example", -60)}) {
    Outcome outcome = meet(host_, context(TlsContext::Side::kDonor, files), "donor.example");
    EXPECT_FALSE(outcome.host_ok || outcome.donor_ok);
    EXPECT_EQ(outcome.host.code, ErrorCode::kUntrusted);
  }
}

TEST_F(TlsCertificates, AHostOfAnotherAuthorityIsTurnedAwayAndLearnsWhy) {
  CertificateFiles foreign = others_.sign("host", "DNS:host");
  foreign.authority = ours_.authority();
  Outcome outcome = meet(context(TlsContext::Side::kHost, foreign), donor_, "donor.example");
  EXPECT_FALSE(outcome.donor_ok);
  EXPECT_EQ(outcome.host.code, ErrorCode::kUntrusted);
  EXPECT_THAT(outcome.host.context, HasSubstr("does not accept our certificate"));
}

TEST_F(TlsCertificates, TokensAndCertificatesDoNotMixAndEachSideIsToldWhatTheOtherWants) {
  Outcome token = meet(TlsContext::host_with_tokens().value(), donor_, "donor.example", PskKey::of_token("some token"));
  EXPECT_FALSE(token.host_ok || token.donor_ok);
  EXPECT_THAT(token.host.context, HasSubstr("it wants certificates"));
  Outcome certificate = meet(host_, TlsContext::donor_with_token("some token").value(), "donor.example");
  EXPECT_FALSE(certificate.host_ok || certificate.donor_ok);
  EXPECT_THAT(certificate.host.context, HasSubstr("it wants a token"));
}

TEST_F(TlsCertificates, FilesThatCannotBeUsedAreNamed) {
  const CertificateFiles good = ours_.sign("good", "DNS:good"), other = ours_.sign("other", "DNS:other");
  auto problem_with = [](const CertificateFiles& files) {
    std::string problem;
    EXPECT_FALSE(TlsContext::with_certificates(TlsContext::Side::kHost, files, &problem).ok());
    return problem;
  };
  EXPECT_THAT(problem_with({"/no/such", good.key, good.authority}), HasSubstr("--tls-cert /no/such"));
  EXPECT_THAT(problem_with({good.certificate, "/no/such", good.authority}), HasSubstr("--tls-key: /no/such"));
  EXPECT_THAT(problem_with({good.certificate, good.key, "/no/such"}), HasSubstr("--tls-ca /no/such"));
  EXPECT_THAT(problem_with({good.certificate, other.key, good.authority}), HasSubstr("--tls-key"));
  EXPECT_THAT(problem_with({good.key, good.key, good.authority}), HasSubstr("--tls-cert"));
  ASSERT_EQ(chmod(good.key.c_str(), 0644), 0);
  EXPECT_THAT(problem_with(good), HasSubstr("chmod 600"));
}

}  // namespace
}  // namespace hecaton
