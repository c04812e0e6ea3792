#include "transport/credentials.h"

#include <fmt/format.h>

#include "base/check.h"
#include "os/private_file.h"
#include "transport/tls_stream.h"
#include "wire/token.h"

namespace hecaton {

const char* const kRdmaWithToken =
    "RDMA is not encrypted, a token would not protect it: leave rdma:// away to use the token, or the token to use "
    "RDMA "
    "on a network that is yours alone (--insecure)";

Result<Credentials> Credentials::make(std::string token, const CertificateFiles& files, std::string* problem) {
  Credentials credentials;
  credentials.token_ = std::move(token);
  auto tokens = TlsContext::host_with_tokens();
  if (!tokens.ok()) {
    *problem = tokens.error().describe();
    return tokens.error();
  }
  credentials.tokens_ = std::move(tokens).value();
  if (files.any()) {
    credentials.certificates_ = HEC_TRY(TlsContext::with_certificates(TlsContext::Side::kHost, files, problem));
  }
  return credentials;
}

Credentials Credentials::with_words(const TlsWords& words) const {
  Credentials same = *this;
  same.words_ = &words;
  return same;
}

bool Credentials::cover(const NodeUrl& url) const {
  return !url.rdma && (!url.token.empty() || !token_.empty() || certificates_);
}

Result<std::unique_ptr<Stream>> Credentials::secure(std::unique_ptr<Stream> stream, const NodeUrl& url,
                                                    Deadline by) const {
  HEC_CHECK(cover(url));
  const std::string& token = url.token.empty() ? token_ : url.token;
  if (token.empty()) return TlsStream::connect(certificates_, std::move(stream), std::nullopt, url.host, by, *words_);
  auto context = tokens_ ? tokens_ : HEC_TRY(TlsContext::host_with_tokens());
  return TlsStream::connect(std::move(context), std::move(stream), PskKey::of_token(token), url.host, by, *words_);
}

Result<std::string> read_token_file(const std::string& path, std::string* problem) {
  const std::string content = HEC_TRY(read_private_file(path, problem));
  Result<std::string> token = parse_token(content);
  if (!token.ok()) {
    *problem =
        fmt::format("{}: {}; remove the file, and hecatond --token-file makes a good one", path, token.error().context);
  }
  return token;
}

}  // namespace hecaton
