// Whom hecatond serves: everybody on this machine, who knows a token, who has a certificate, or, on request, everybody.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "transport/tls_context.h"
#include "wire/node_url.h"

namespace hecaton {

struct TrustOptions {
  std::string token_file;
  CertificateFiles certificates;
  bool insecure = false;
  bool rdma_wanted = false;
  bool any() const { return !token_file.empty() || certificates.any(); }
};

struct Trust {
  std::shared_ptr<const TlsContext> tls;  // null: no TLS
  std::string token;                      // empty: none
};

// Reads what the options name; makes the token's file if it is not there. Nothing: `problem` says why, in words for the
// user.
std::optional<Trust> load_trust(const TrustOptions& options, const NodeUrl& listen, std::string* problem);

// What hosts are told: the address, and where that is "any", an address of this machine that others may know.
NodeUrl address_for_others(const NodeUrl& listens);

}  // namespace hecaton
