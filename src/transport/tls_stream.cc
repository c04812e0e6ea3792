#include "transport/tls_stream.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "transport/piece_cursor.h"

namespace hecaton {

const TlsWords kWordsOfDonors{
    .no_tls =
        "it does not use TLS: leave the token (or certificates) away, or start hecatond there with --token-file FILE",
    .wrong_token =
        "it does not accept this token: take the one of the line 'pair with' that hecatond prints there when it starts",
    .wants_token =
        "it wants a token, not certificates: give its URL as hecatond prints it there, hecaton://TOKEN@HOST:PORT, or "
        "--token-file FILE",
    .wants_certificates =
        "it wants certificates, not a token: give --tls-cert, --tls-key and --tls-ca, or start hecatond there with "
        "--token-file FILE",
    .bad_certificate =
        "its certificate is not one that --tls-ca signed for the name or address that the donor is given by, or has "
        "expired",
    .refused_certificate =
        "it does not accept our certificate: --tls-cert here must be signed by the authority that hecatond has as "
        "--tls-ca",
    .otherwise = "the TLS handshake with it failed: is that port hecatond's, of this version?",
};

namespace {

constexpr size_t kRecordBytes = SSL3_RT_MAX_PLAIN_LENGTH;  // 16 KiB
// Encrypted before it is sent. More saves no system call worth the name, and makes the peer wait longer for the first.
constexpr size_t kBatchBytes = 4 * kRecordBytes;
constexpr size_t kBatchOverhead = 256;  // of each record a header, an inner type and a tag; a change of keys
// More than a batch that the peer does not take: answers of OpenSSL have piled up behind it.
constexpr size_t kMostUnsent = 2 * kBatchBytes;
// An idle donor's connection keeps no more than that.
constexpr size_t kKeptRoom = 8 * 1024;
constexpr int kDiscardsAtOnce = 8;
constexpr unsigned char kFirstRecordType = 20, kLastRecordType = 23;

// The reason codes of alerts that the peer sent: 1000 and the number of RFC 8446, 6.2.
constexpr int alert(int number) {
  return 1000 + number;
}
constexpr int kHandshakeFailure = 40, kFirstAboutCertificates = 42, kLastAboutCertificates = 46, kIllegalParameter = 47,
              kUnknownAuthority = 48, kDecryptError = 51, kCertificateRequired = 116;

bool about_certificates(int reason) {
  return (reason >= alert(kFirstAboutCertificates) && reason <= alert(kLastAboutCertificates)) ||
         reason == alert(kUnknownAuthority) || reason == alert(kCertificateRequired);
}

// What a host tells of a handshake that failed.
const char* explain_to_host(unsigned long error, bool certificates, const TlsWords& words) {
  const int reason = ERR_GET_REASON(error);
  if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) return certificates ? words.bad_certificate : words.wants_certificates;
  if (about_certificates(reason)) return certificates ? words.refused_certificate : words.wants_certificates;
  if (reason == alert(kHandshakeFailure)) return certificates ? words.wants_token : words.wrong_token;
  // A proof that does not hold: OpenSSL has another alert for it than RFC 8446.
  if (reason == alert(kIllegalParameter) || reason == alert(kDecryptError)) {
    return certificates ? words.refused_certificate : words.wrong_token;
  }
  return words.otherwise;
}

bool is_address(const std::string& host) {
  unsigned char bytes[16];
  return inet_pton(AF_INET, host.c_str(), bytes) == 1 || inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

bool expect_host(SSL* ssl, const std::string& host) {
  if (is_address(host)) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1;
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return SSL_set1_host(ssl, host.c_str()) == 1;
}

}  // namespace

TlsStream::TlsStream(std::shared_ptr<const TlsContext> context, std::unique_ptr<Stream> below, const TlsWords& words)
    : context_(std::move(context)), below_(std::move(below)), words_(words) {}

TlsStream::~TlsStream() = default;

bool TlsStream::prepare() {
  method_.reset(BIO_meth_new(BIO_TYPE_SOURCE_SINK, "hecaton stream"));
  ssl_.reset(SSL_new(context_->get()));
  if (!method_ || !ssl_) return false;
  BIO_meth_set_read(method_.get(), read_below);
  BIO_meth_set_write(method_.get(), write_below);
  BIO_meth_set_ctrl(method_.get(), control);
  BIO* bio = BIO_new(method_.get());
  if (!bio) return false;
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_app_data(ssl_.get(), this);
  context_->side() == TlsContext::Side::kHost ? SSL_set_connect_state(ssl_.get()) : SSL_set_accept_state(ssl_.get());
  return true;
}

Result<std::unique_ptr<Stream>> TlsStream::connect(std::shared_ptr<const TlsContext> context,
                                                   std::unique_ptr<Stream> below, std::optional<PskKey> key,
                                                   const std::string& host, Deadline by, const TlsWords& words) {
  HEC_CHECK(context->side() == TlsContext::Side::kHost && context->has_certificates() != key.has_value());
  std::unique_ptr<TlsStream> stream(new TlsStream(std::move(context), std::move(below), words));
  if (!stream->prepare() || (!key && !expect_host(stream->ssl_.get(), host))) {
    ERR_clear_error();
    return Error{ErrorCode::kSystem, ENOMEM, "preparing TLS"};
  }
  stream->key_ = std::move(key);
  HEC_TRY(stream->finish_handshake(by));
  return std::unique_ptr<Stream>(std::move(stream));
}

std::unique_ptr<Stream> TlsStream::accept(std::shared_ptr<const TlsContext> context, std::unique_ptr<Stream> below,
                                          std::span<const std::byte> to_plain, const TlsWords& words) {
  HEC_CHECK(context->side() == TlsContext::Side::kDonor);
  std::unique_ptr<TlsStream> stream(new TlsStream(std::move(context), std::move(below), words));
  if (!stream->prepare()) {
    ERR_clear_error();
    return nullptr;
  }
  stream->to_plain_ = to_plain;
  return stream;
}

const PskKey* TlsStream::key_of(SSL* ssl) {
  const auto* stream = static_cast<const TlsStream*>(SSL_get_app_data(ssl));
  return stream && stream->key_ ? &*stream->key_ : nullptr;
}

Result<void> TlsStream::finish_handshake(Deadline by) {
  for (;;) {
    emptied_ = false;
    shake_hands();
    if (state_ == State::kOpen) return {};
    if (why_) return Error{ErrorCode::kUntrusted, 0, why_};
    if (state_ != State::kHandshake)
      return Error{ErrorCode::kClosed, 0, "it closed the connection in the TLS handshake"};
    pollfd waiting{fd(), receive_events(), 0};
    if (poll(&waiting, 1, by.remaining_ms()) == 0) {
      return Error{ErrorCode::kTimeout, 0, "it does not answer the TLS handshake"};
    }
  }
}

void TlsStream::shake_hands() {
  if (has_unsent() && !flush()) return;
  ERR_clear_error();
  const int status = SSL_do_handshake(ssl_.get());
  const bool done = status == 1 && proven();
  const bool waits = status != 1 && SSL_get_error(ssl_.get(), status) == SSL_ERROR_WANT_READ;
  const unsigned long error = ERR_peek_error();
  flush();  // what is left of it goes with the first send, or a receive that waits for it
  if (waits) return;
  if (done) {
    key_.reset();
    if (state_ != State::kEnded) state_ = State::kOpen;
  } else if (plain_peer_) {
    turn_away(words_.no_tls);
  } else if (below_closed_) {
    state_ = State::kEnded;
  } else {
    turn_away(context_->side() == TlsContext::Side::kHost ? explain_to_host(error, context_->has_certificates(), words_)
                                                          : "the peer could not prove who it is");
  }
  ERR_clear_error();
}

// OpenSSL lets a handshake without the PSK fail already, for want of a certificate. This does not rest on that.
bool TlsStream::proven() const {
  if (!context_->has_certificates()) return SSL_session_reused(ssl_.get()) == 1;
  return SSL_session_reused(ssl_.get()) == 0 && SSL_get0_peer_certificate(ssl_.get()) != nullptr &&
         SSL_get_verify_result(ssl_.get()) == X509_V_OK;
}

// With input unread, closing would make TCP reset the connection, and the peer may never read what it was told.
void TlsStream::turn_away(const char* why) {
  why_ = why;
  if (plain_peer_ && !to_plain_.empty()) {
    iovec answer{const_cast<std::byte*>(to_plain_.data()), to_plain_.size()};
    (void)below_->send(std::span(&answer, 1));  // a fresh connection has room for it
  }
  state_ = below_->finish_sending() ? State::kTurnedAway : State::kEnded;
}

// False: it has hung up.
bool TlsStream::discard_input() {
  std::array<std::byte, 4096> scratch;
  for (int turn = 0; turn < kDiscardsAtOnce; ++turn) {
    const IoResult got = below_->receive(scratch);
    if (got.kind != IoResult::Kind::kBytes) return got.kind != IoResult::Kind::kClosed;
  }
  return true;
}

IoResult TlsStream::receive(std::span<std::byte> into) {
  filled_ = false;
  emptied_ = false;
  if (state_ == State::kHandshake) shake_hands();
  if (state_ == State::kTurnedAway && !discard_input()) state_ = State::kEnded;
  if (state_ == State::kOpen && (flush() || listens())) {
    const size_t got = receive_plain(into);
    if (has_unsent()) flush();
    filled_ = got == into.size();
    if (got > 0) return {IoResult::Kind::kBytes, got};
  }
  const bool closed = state_ == State::kEnded || peer_finished_;
  return {closed ? IoResult::Kind::kClosed : IoResult::Kind::kWouldBlock, 0};
}

// OpenSSL answers some of what the peer's OpenSSL says: whoever lets the answers pile up is not listened to. But a
// batch that waits for room is no reason: two that both wait, and listen only afterwards, would wait for ever.
bool TlsStream::listens() const {
  return !has_unsent() || (state_ == State::kOpen && unsent_end_ - unsent_first_ < kMostUnsent);
}

size_t TlsStream::receive_plain(std::span<std::byte> into) {
  size_t got = 0;
  while (got < into.size() && state_ == State::kOpen && !peer_finished_) {
    size_t part = 0;
    ERR_clear_error();
    const int status = SSL_read_ex(ssl_.get(), into.data() + got, into.size() - got, &part);
    got += part;
    if (status == 1) continue;
    if (SSL_get_error(ssl_.get(), status) == SSL_ERROR_WANT_READ) break;
    note_end(status);
  }
  return got;
}

// The end, good or bad.
void TlsStream::note_end(int status) {
  if (SSL_get_error(ssl_.get(), status) == SSL_ERROR_ZERO_RETURN) {
    peer_finished_ = true;
    return;
  }
  // A donor learns from the host's last words of the handshake whether its certificate is good: it is told of it here.
  const int reason = ERR_GET_REASON(ERR_peek_error());
  const bool refused = about_certificates(reason) || reason == alert(kDecryptError);
  if (context_->has_certificates() && refused) why_ = words_.refused_certificate;
  ERR_clear_error();
  flush();
  state_ = State::kEnded;
}

IoResult TlsStream::send(std::span<const iovec> pieces) {
  if (state_ == State::kHandshake) return {IoResult::Kind::kWouldBlock, 0};
  if (state_ != State::kOpen) return {IoResult::Kind::kClosed, 0};
  PieceCursor cursor(pieces);
  cursor.advance(owed_);
  size_t taken = 0;
  for (;;) {
    if (has_unsent() && !flush()) break;
    taken += std::exchange(owed_, 0);
    if (cursor.at_end()) break;
    if (!encrypt_some(cursor)) {
      state_ = State::kEnded;
      break;
    }
  }
  if (!has_unsent() && unsent_room_ > kKeptRoom && context_->side() == TlsContext::Side::kDonor) {
    unsent_.reset();
    unsent_room_ = 0;
  }
  if (taken > 0) return {IoResult::Kind::kBytes, taken};
  return {state_ == State::kEnded ? IoResult::Kind::kClosed : IoResult::Kind::kWouldBlock, 0};
}

// Encrypts a batch; false if OpenSSL could not.
bool TlsStream::encrypt_some(PieceCursor& from) {
  std::array<std::byte, kRecordBytes> together;  // not cleared
  make_room(std::min(from.left(), kBatchBytes) + kBatchOverhead);
  while (!from.at_end() && owed_ < kBatchBytes) {
    std::span<const std::byte> plain = from.front();
    if (plain.size() >= kRecordBytes || from.is_last()) {
      plain = plain.first(std::min(plain.size(), kRecordBytes));
      from.advance(plain.size());
    } else {
      plain = std::span(together.data(), from.gather(together));
    }
    if (!renew_key_in_time() || !encrypt(plain)) return false;
    owed_ += plain.size();
  }
  return true;
}

bool TlsStream::encrypt(std::span<const std::byte> plain) {
  size_t written = 0;
  ERR_clear_error();
  ++records_;
  return SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &written) == 1 && written == plain.size();
}

// Each side renews the key of its own records; the peer follows without an answer.
bool TlsStream::renew_key_in_time() {
  if (records_ < context_->records_per_key()) return true;
  records_ = 0;
  return SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1;
}

// True: nothing is left.
bool TlsStream::flush() {
  while (has_unsent()) {
    iovec piece{unsent_.get() + unsent_first_, unsent_end_ - unsent_first_};
    const IoResult sent = below_->send(std::span(&piece, 1));
    if (sent.kind == IoResult::Kind::kClosed) state_ = State::kEnded;
    if (sent.kind != IoResult::Kind::kBytes) return false;
    unsent_first_ += sent.bytes;
  }
  unsent_first_ = unsent_end_ = 0;
  return true;
}

// RFC 8446, 7.5.
bool TlsStream::bind(std::span<std::byte, 32> out) const {
  constexpr std::string_view kLabel = "EXPORTER-hecaton-bind-1";
  if (state_ != State::kOpen) return false;
  return SSL_export_keying_material(ssl_.get(), reinterpret_cast<unsigned char*>(out.data()), out.size(), kLabel.data(),
                                    kLabel.size(), nullptr, 0, 0) == 1;
}

bool TlsStream::finish_sending() {
  if (state_ == State::kEnded) return false;
  if (state_ == State::kOpen) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    flush();
  }
  return below_->finish_sending();
}

// For that much more behind what is unsent.
void TlsStream::make_room(size_t bytes) {
  if (unsent_room_ - unsent_end_ >= bytes) return;
  const size_t kept = unsent_end_ - unsent_first_;
  // Most connections only ever say little; the others soon fill whole batches.
  const size_t room =
      kept + bytes <= kKeptRoom ? std::bit_ceil(kept + bytes) : std::max(kept + bytes, kBatchBytes + kBatchOverhead);
  auto grown = std::make_unique_for_overwrite<std::byte[]>(room);
  if (kept > 0) std::memcpy(grown.get(), unsent_.get() + unsent_first_, kept);
  unsent_ = std::move(grown);
  unsent_room_ = room;
  unsent_first_ = 0;
  unsent_end_ = kept;
}

int TlsStream::write_below(BIO* bio, const char* from, int bytes) {
  auto& self = *static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (bytes <= 0) return bytes;
  const size_t size = static_cast<size_t>(bytes);
  self.make_room(size);
  std::memcpy(self.unsent_.get() + self.unsent_end_, from, size);
  self.unsent_end_ += size;
  return bytes;
}

int TlsStream::read_below(BIO* bio, char* into, int bytes) {
  auto& self = *static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  IoResult got{IoResult::Kind::kWouldBlock, 0};
  const std::span<std::byte> space(reinterpret_cast<std::byte*>(into), static_cast<size_t>(bytes));
  if (!self.emptied_) got = self.below_->receive(space);
  if (got.kind == IoResult::Kind::kClosed) {
    self.below_closed_ = true;
    return 0;
  }
  // What is short is the last for now, and the next look would cost a system call to learn so.
  self.emptied_ = got.bytes < space.size();
  if (got.kind == IoResult::Kind::kWouldBlock) {
    BIO_set_retry_read(bio);
    return -1;
  }
  if (!self.heard_) {
    self.heard_ = true;
    const unsigned char first = static_cast<unsigned char>(into[0]);
    self.plain_peer_ = first < kFirstRecordType || first > kLastRecordType;
    if (self.plain_peer_) return -1;
  }
  return static_cast<int>(got.bytes);
}

long TlsStream::control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

}  // namespace hecaton
