// What the TLS connections of one side have in common: version and cipher, and what proves who is who.
//
// TLS 1.3 only, TLS_AES_128_GCM_SHA256, ephemeral Diffie-Hellman always; no tickets, no early data, no renegotiation,
// no compression: every connection is a full handshake, so that nothing recorded is worth anything later. Two kinds:
//
//   token         both sides know a text. It becomes the key of an external PSK (RFC 8446, 2.2 and 4.2.11), by
//                 HKDF-SHA-256. The handshake fails unless both know it, and neither sends it.
//   certificates  both sides show one, and check the other's against an authority; the host also checks that it is for
//                 the donor's name or address.
//
// Threads: any; never changed once made.
#pragma once

#include <openssl/ssl.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hecaton {

// Forgets itself at its end.
class PskKey {
 public:
  static constexpr size_t kBytes = 32;
  // Not of an empty one.
  static PskKey of_token(std::string_view token);
  PskKey(const PskKey&) = default;
  PskKey& operator=(const PskKey&) = default;
  ~PskKey();
  const unsigned char* data() const { return bytes_.data(); }

 private:
  PskKey() = default;
  std::array<unsigned char, kBytes> bytes_{};
};

// Paths of PEM files.
struct CertificateFiles {
  std::string certificate, key, authority;
  bool any() const { return !certificate.empty() || !key.empty() || !authority.empty(); }
  bool all() const { return !certificate.empty() && !key.empty() && !authority.empty(); }
};

class TlsContext {
 public:
  enum class Side : uint8_t { kHost, kDonor };

  // A host's; each connection brings the key of its donor's token.
  static Result<std::shared_ptr<const TlsContext>> host_with_tokens();
  static Result<std::shared_ptr<const TlsContext>> donor_with_token(std::string_view token);
  // On error `problem` names the file and what is wrong with it. The key's file must be private.
  static Result<std::shared_ptr<const TlsContext>> with_certificates(Side side, const CertificateFiles& files,
                                                                     std::string* problem);

  SSL_CTX* get() const { return context_.get(); }
  Side side() const { return side_; }
  bool has_certificates() const { return certificates_; }
  const PskKey* key() const { return key_.get(); }
  // Records that are sent under one key. AES-GCM may protect about 2^24.5 of them (RFC 8446, 5.5).
  uint64_t records_per_key() const { return records_per_key_; }
  void set_records_per_key_for_tests(uint64_t records) { records_per_key_ = records; }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  TlsContext(Side side, bool certificates, std::unique_ptr<SSL_CTX, Free> context)
      : side_(side), certificates_(certificates), context_(std::move(context)) {}
  static Result<std::shared_ptr<TlsContext>> create(Side side, bool certificates);
  Result<void> load(const CertificateFiles& files, std::string* problem);

  const Side side_;
  const bool certificates_;
  std::unique_ptr<SSL_CTX, Free> context_;
  std::unique_ptr<const PskKey> key_;  // a donor's
  uint64_t records_per_key_ = uint64_t{1} << 23;
};

// A session that a PSK handshake goes on from, made of the key; for the callbacks of OpenSSL. Null: out of memory.
SSL_SESSION* session_of(SSL* ssl, const PskKey& key);
// The name of the key in the handshake. It tells nothing: every token has the same.
extern const std::string_view kPskIdentity;

}  // namespace hecaton
