// How this host proves itself to its donors, and they to it: tokens or certificates. See tls_context.h.
//
// A value, cheap to copy, never changed once made. Threads: any.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "transport/tls_context.h"
#include "transport/tls_words.h"
#include "wire/node_url.h"

namespace hecaton {

class Stream;

class Credentials {
 public:
  // None but the tokens that stand in URLs.
  Credentials() = default;
  // `token`: for donors whose URL has none; may be empty. `files`: instead of it; may be empty. On error `problem` says
  // what is wrong with a file.
  static Result<Credentials> make(std::string token, const CertificateFiles& files, std::string* problem);

  // The same for peers of which users are told in other words than of donors.
  Credentials with_words(const TlsWords& words) const;

  // Whether the way to that donor is encrypted and both sides prove themselves. Never over RDMA.
  bool cover(const NodeUrl& url) const;
  // TLS over a fresh connection to a donor that they cover. A token of the URL comes before anything else.
  Result<std::unique_ptr<Stream>> secure(std::unique_ptr<Stream> stream, const NodeUrl& url, Deadline by) const;

 private:
  std::string token_;
  std::shared_ptr<const TlsContext> certificates_;  // null: none
  std::shared_ptr<const TlsContext> tokens_;        // shared by all connections; null: each makes its own
  const TlsWords* words_ = &kWordsOfDonors;
};

extern const char* const kRdmaWithToken;

// The token in a private file. On error `problem` names the file and what to do. Error: kNotFound if it is not there.
Result<std::string> read_token_file(const std::string& path, std::string* problem);

}  // namespace hecaton
