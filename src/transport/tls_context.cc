#include "transport/tls_context.h"

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/pem.h>

#include <cstring>

#include "base/check.h"
#include "os/private_file.h"
#include "transport/tls_stream.h"

namespace hecaton {

const std::string_view kPskIdentity = "hecaton token 1";

namespace {

constexpr std::string_view kKeyLabel = "hecaton tls 1.3 external psk, sha-256, version 1";
constexpr unsigned char kAes128GcmSha256[2] = {0x13, 0x01};

// For a donor: the key that the host says it has.
int find_session(SSL* ssl, const unsigned char* identity, size_t length, SSL_SESSION** session) {
  *session = nullptr;
  const auto* context = static_cast<const TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  if (length != kPskIdentity.size() || memcmp(identity, kPskIdentity.data(), length) != 0) return 1;  // not known
  *session = session_of(ssl, *context->key());
  return *session ? 1 : 0;
}

// For a host: the key of this connection's donor.
int use_session(SSL* ssl, const EVP_MD*, const unsigned char** identity, size_t* length, SSL_SESSION** session) {
  const PskKey* key = TlsStream::key_of(ssl);
  *session = key ? session_of(ssl, *key) : nullptr;
  *identity = reinterpret_cast<const unsigned char*>(kPskIdentity.data());
  *length = kPskIdentity.size();
  return *session ? 1 : 0;
}

bool restrict_protocol(SSL_CTX* context) {
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_clear_options(context, SSL_OP_ENABLE_MIDDLEBOX_COMPAT | SSL_OP_ALLOW_NO_DHE_KEX);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_max_early_data(context, 0);
  // A peer that only ever changes keys gets its turn and no more: after each change, a read comes back.
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
  // What has arrived is taken in one read, not a record's header and its body in two.
  SSL_CTX_set_read_ahead(context, 1);
  return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1 &&
         SSL_CTX_set1_groups_list(context, "X25519:P-256") == 1 && SSL_CTX_set_num_tickets(context, 0) == 1;
}

std::string openssl_words() {
  const unsigned long error = ERR_peek_last_error();
  const char* reason = error ? ERR_reason_error_string(error) : nullptr;
  ERR_clear_error();
  return reason ? reason : "OpenSSL does not take it";
}

EVP_PKEY* key_in(const std::string& pem) {
  BIO* memory = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  auto no_password = [](char*, int, int, void*) { return 0; };  // nobody is there to be asked
  EVP_PKEY* key = memory ? PEM_read_bio_PrivateKey(memory, nullptr, no_password, nullptr) : nullptr;
  BIO_free(memory);
  return key;
}

}  // namespace

PskKey PskKey::of_token(std::string_view token) {
  PskKey key;
  EVP_KDF* hkdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  EVP_KDF_CTX* context = hkdf ? EVP_KDF_CTX_new(hkdf) : nullptr;
  char digest[] = "SHA256";
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<char*>(token.data()), token.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, const_cast<char*>(kKeyLabel.data()), kKeyLabel.size()),
      OSSL_PARAM_construct_end()};
  // Every OpenSSL 3 has it.
  HEC_CHECK(context && EVP_KDF_derive(context, key.bytes_.data(), key.bytes_.size(), parameters) == 1);
  EVP_KDF_CTX_free(context);
  EVP_KDF_free(hkdf);
  return key;
}

PskKey::~PskKey() {
  OPENSSL_cleanse(bytes_.data(), bytes_.size());
}

SSL_SESSION* session_of(SSL* ssl, const PskKey& key) {
  SSL_SESSION* session = SSL_SESSION_new();
  const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, kAes128GcmSha256);
  if (session && cipher && SSL_SESSION_set1_master_key(session, key.data(), PskKey::kBytes) == 1 &&
      SSL_SESSION_set_cipher(session, cipher) == 1 && SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1) {
    return session;
  }
  SSL_SESSION_free(session);
  return nullptr;
}

Result<std::shared_ptr<TlsContext>> TlsContext::create(Side side, bool certificates) {
  std::unique_ptr<SSL_CTX, Free> context(SSL_CTX_new(side == Side::kHost ? TLS_client_method() : TLS_server_method()));
  if (!context || !restrict_protocol(context.get())) {
    ERR_clear_error();
    return Error{ErrorCode::kUnsupported, 0, "this machine's OpenSSL cannot do TLS 1.3 with AES-GCM"};
  }
  // A host with a token trusts no certificate at all: who shows one does not know the token. A donor with a token has
  // none to show, and asks for none.
  const int verify = certificates          ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                     : side == Side::kHost ? SSL_VERIFY_PEER
                                           : SSL_VERIFY_NONE;
  SSL_CTX_set_verify(context.get(), verify, nullptr);
  std::shared_ptr<TlsContext> made(new TlsContext(side, certificates, std::move(context)));
  SSL_CTX_set_app_data(made->get(), made.get());
  // Between its requests a donor's connection, one of thousands, keeps no buffers. A host keeps them: faults do not
  // wait for memory.
  if (side == Side::kDonor) SSL_CTX_set_mode(made->get(), SSL_MODE_RELEASE_BUFFERS);
  return made;
}

Result<std::shared_ptr<const TlsContext>> TlsContext::host_with_tokens() {
  std::shared_ptr<TlsContext> context = HEC_TRY(create(Side::kHost, false));
  SSL_CTX_set_psk_use_session_callback(context->get(), use_session);
  return std::shared_ptr<const TlsContext>(std::move(context));
}

Result<std::shared_ptr<const TlsContext>> TlsContext::donor_with_token(std::string_view token) {
  std::shared_ptr<TlsContext> context = HEC_TRY(create(Side::kDonor, false));
  context->key_ = std::make_unique<PskKey>(PskKey::of_token(token));
  SSL_CTX_set_psk_find_session_callback(context->get(), find_session);
  return std::shared_ptr<const TlsContext>(std::move(context));
}

Result<std::shared_ptr<const TlsContext>> TlsContext::with_certificates(Side side, const CertificateFiles& files,
                                                                        std::string* problem) {
  Result<std::shared_ptr<TlsContext>> context = create(side, true);
  if (!context.ok()) {
    *problem = context.error().describe();
    return context.error();
  }
  HEC_TRY((*context)->load(files, problem));
  return std::shared_ptr<const TlsContext>(std::move(context).value());
}

Result<void> TlsContext::load(const CertificateFiles& files, std::string* problem) {
  const Error error{ErrorCode::kInvalidArgument, 0, "a certificate or key cannot be used"};
  ERR_clear_error();
  const auto fail = [&](const char* option, const std::string& file) {
    *problem = fmt::format("{} {}: {}", option, file, openssl_words());
    return error;
  };
  if (SSL_CTX_use_certificate_chain_file(get(), files.certificate.c_str()) != 1) {
    return fail("--tls-cert", files.certificate);
  }
  Result<std::string> pem = read_private_file(files.key, problem);
  if (!pem.ok()) {
    *problem = "--tls-key: " + *problem;
    return error;
  }
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(key_in(*pem), EVP_PKEY_free);
  OPENSSL_cleanse(pem->data(), pem->size());
  if (!key || SSL_CTX_use_PrivateKey(get(), key.get()) != 1 || SSL_CTX_check_private_key(get()) != 1) {
    return fail("--tls-key", files.key);
  }
  if (SSL_CTX_load_verify_locations(get(), files.authority.c_str(), nullptr) != 1) {
    return fail("--tls-ca", files.authority);
  }
  return {};
}

}  // namespace hecaton
