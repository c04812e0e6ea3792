// For tests: an authority that signs certificates, as PEM files in a folder of its own.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "transport/tls_context.h"

namespace hecaton {

class AuthorityForTests {
 public:
  AuthorityForTests() : key_(new_key(), EVP_PKEY_free), certificate_(nullptr, X509_free) {
    std::string pattern = testing::TempDir() + "hecaton-ca-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    certificate_ = make("authority", key_.get(), "", 3600);
    write("ca.pem", [&](FILE* file) { PEM_write_X509(file, certificate_.get()); });
  }
  ~AuthorityForTests() { std::filesystem::remove_all(folder_); }
  AuthorityForTests(const AuthorityForTests&) = delete;
  AuthorityForTests& operator=(const AuthorityForTests&) = delete;

  // A certificate for such names, "DNS:a,IP:1.2.3.4", and its key; it ends after so many seconds.
  CertificateFiles sign(const std::string& file, const std::string& names, long seconds = 3600) const {
    Key key(new_key(), EVP_PKEY_free);
    Certificate made = make(file, key.get(), names, seconds);
    CertificateFiles files{folder_ + "/" + file + ".pem", folder_ + "/" + file + ".key", authority()};
    write(file + ".pem", [&](FILE* out) { PEM_write_X509(out, made.get()); });
    write(file + ".key",
          [&](FILE* out) { PEM_write_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
    return files;
  }
  std::string authority() const { return folder_ + "/ca.pem"; }

 private:
  using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
  using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

  static EVP_PKEY* new_key() { return EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"); }

  // Signed by us; without names: by itself, as an authority.
  Certificate make(const std::string& name, EVP_PKEY* key, const std::string& names, long seconds) const {
    Certificate made(X509_new(), X509_free);
    X509* x509 = made.get();
    X509_set_version(x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), ++serial_);
    X509_gmtime_adj(X509_getm_notBefore(x509), -7200);
    X509_gmtime_adj(X509_getm_notAfter(x509), seconds);
    X509_set_pubkey(x509, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509* issuer = names.empty() ? x509 : certificate_.get();
    X509_set_issuer_name(x509, X509_get_subject_name(issuer));
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, x509, nullptr, nullptr, 0);
    add(x509, &context, NID_basic_constraints, names.empty() ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (!names.empty()) add(x509, &context, NID_subject_alt_name, names);
    X509_sign(x509, key_.get(), EVP_sha256());
    return made;
  }
  static void add(X509* to, X509V3_CTX* context, int kind, const std::string& value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, context, kind, value.c_str());
    X509_add_ext(to, extension, -1);
    X509_EXTENSION_free(extension);
  }
  template <typename Write>
  void write(const std::string& name, Write content) const {
    const std::string path = folder_ + "/" + name;
    FILE* file = fopen(path.c_str(), "w");
    ASSERT_NE(file, nullptr);
    chmod(path.c_str(), 0600);
    content(file);
    fclose(file);
  }

  std::string folder_;
  Key key_;
  Certificate certificate_;
  mutable long serial_ = 0;
};

}  // namespace hecaton
