// TLS 1.3 over another stream.
//
//   host    connect() returns a stream whose peer has proven itself
//   donor   accept(): receive() first shakes hands, as bytes arrive
//             handshake ──▶ open ──▶ ended
//                └── not TLS, or no proof ──▶ turned away: told why, then nothing but waiting for it to hang up
//
// A receive() that gives less than there is room for has emptied the stream below, so that fd() becomes readable when
// there is more; holds_input() tells when it has not. Bytes to send are encrypted as a whole batch and sent with one
// call; those that are encrypted but not sent count as not taken, and are known again when they are offered again.
//
// Small requests and replies cost one record and one system call each way. OpenSSL 3.0 takes and gives back a few dozen
// bytes of memory for each record; nothing here does after the first messages of each size.
// Threads: one at a time, as for every stream.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "transport/stream.h"
#include "transport/tls_context.h"
#include "transport/tls_words.h"

namespace hecaton {

class PieceCursor;

class TlsStream final : public Stream {
 public:
  // `key` for a context with tokens; `host`, the name or address that the donor's certificate must be for, otherwise.
  // Error: kUntrusted, with words for the user (of `words`, which outlive the stream); kTimeout; kClosed.
  static Result<std::unique_ptr<Stream>> connect(std::shared_ptr<const TlsContext> context,
                                                 std::unique_ptr<Stream> below, std::optional<PskKey> key,
                                                 const std::string& host, Deadline by,
                                                 const TlsWords& words = kWordsOfDonors);
  // `to_plain` is what a peer gets that does not speak TLS; must outlive the stream. Null: out of memory.
  static std::unique_ptr<Stream> accept(std::shared_ptr<const TlsContext> context, std::unique_ptr<Stream> below,
                                        std::span<const std::byte> to_plain, const TlsWords& words = kWordsOfDonors);
  ~TlsStream() override;

  IoResult receive(std::span<std::byte> into) override;
  IoResult send(std::span<const iovec> pieces) override;
  int fd() const override { return below_->fd(); }
  short send_events() const override { return below_->send_events(); }
  short receive_events() const override {
    const int to_send = has_unsent() ? below_->send_events() : 0;
    return static_cast<short>(to_send | (listens() ? below_->receive_events() : 0));
  }
  bool holds_input() const override { return filled_; }
  bool bind(std::span<std::byte, 32> out) const override;
  bool finish_sending() override;
  const char* why_closed() const override { return why_; }
  std::optional<unsigned> local_peer_processor() const override { return below_->local_peer_processor(); }

  // For OpenSSL's callback: the key that this connection is to prove; null once it has.
  static const PskKey* key_of(SSL* ssl);

 private:
  enum class State : uint8_t { kHandshake, kOpen, kTurnedAway, kEnded };
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(BIO_METHOD* method) const { BIO_meth_free(method); }
  };

  TlsStream(std::shared_ptr<const TlsContext> context, std::unique_ptr<Stream> below, const TlsWords& words);
  bool prepare();
  void shake_hands();
  void turn_away(const char* why);
  void note_end(int status);
  bool proven() const;
  bool flush();
  bool has_unsent() const { return unsent_first_ != unsent_end_; }
  bool listens() const;
  bool encrypt_some(PieceCursor& from);
  bool encrypt(std::span<const std::byte> plain);
  bool renew_key_in_time();
  void make_room(size_t bytes);
  size_t receive_plain(std::span<std::byte> into);
  bool discard_input();
  Result<void> finish_handshake(Deadline by);

  static int read_below(BIO* bio, char* into, int bytes);
  static int write_below(BIO* bio, const char* from, int bytes);
  static long control(BIO* bio, int command, long number, void* pointer);

  const std::shared_ptr<const TlsContext> context_;
  const std::unique_ptr<Stream> below_;
  const TlsWords& words_;
  std::unique_ptr<BIO_METHOD, Free> method_;
  std::unique_ptr<SSL, Free> ssl_;  // ends before the method of its BIO
  std::optional<PskKey> key_;
  std::span<const std::byte> to_plain_;
  const char* why_ = nullptr;
  State state_ = State::kHandshake;
  bool heard_ = false;          // a first byte
  bool plain_peer_ = false;     // and it was not of TLS
  bool emptied_ = false;        // the stream below has nothing more, in this receive()
  bool below_closed_ = false;   // no more will come from it
  bool peer_finished_ = false;  // the peer said that nothing more comes
  bool filled_ = false;
  uint64_t records_ = 0;                 // under this key
  size_t owed_ = 0;                      // of what the caller offers next: encrypted already
  std::unique_ptr<std::byte[]> unsent_;  // encrypted: [first, end)
  size_t unsent_room_ = 0, unsent_first_ = 0, unsent_end_ = 0;
};

}  // namespace hecaton
