#include "cli/donor_trust.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include "os/private_file.h"
#include "transport/credentials.h"
#include "wire/token.h"

namespace hecaton {
namespace {

// Empty, or why these do not go together.
std::string contradiction(const TrustOptions& options, const NodeUrl& listen) {
  if (options.any() && options.insecure) {
    return "--insecure lets everybody in, --token-file and --tls-... do not: choose one of them";
  }
  if (!options.token_file.empty() && options.certificates.any()) {
    return "--token-file and --tls-cert, --tls-key, --tls-ca are two ways to know a host: choose one of them";
  }
  if (options.certificates.any() && !options.certificates.all()) {
    return "--tls-cert, --tls-key and --tls-ca belong together: give all three";
  }
  if (options.any() && options.rdma_wanted) {
    return "--rdma on: RDMA is not encrypted, and knows no tokens; leave it out, or serve RDMA by another hecatond "
           "with "
           "--insecure on a network that is yours alone";
  }
  if (options.any() || options.insecure || listen.is_loopback()) return {};
  return fmt::format(
      "--listen {} is reachable from other machines: say who may use it with --token-file FILE (it is made if it is "
      "not "
      "there, and hosts get the URL that is printed then), or listen on 127.0.0.1; or, on a network that is yours "
      "alone, "
      "add --insecure: then traffic is not encrypted, and anyone there could read and change guest memory",
      listen.printable());
}

// The file may be made by somebody else in between: then it is read.
std::optional<std::string> read_or_make_token(const std::string& path, std::string* problem) {
  Result<std::string> read = read_token_file(path, problem);
  if (read.ok()) return *read;
  if (read.error().code != ErrorCode::kNotFound) return std::nullopt;
  std::string token = make_token();
  Result<void> made = create_private_file(path, token + "\n", problem);
  if (made.ok()) return token;
  if (made.error().code != ErrorCode::kBusy) return std::nullopt;
  read = read_token_file(path, problem);
  return read.ok() ? std::optional(*read) : std::nullopt;
}

std::string text_of(const sockaddr& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.sa_family == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text, sizeof text);
  } else if (address.sa_family == AF_INET6) {
    const in6_addr& v6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
    if (!IN6_IS_ADDR_LINKLOCAL(&v6)) inet_ntop(AF_INET6, &v6, text, sizeof text);  // needs the interface, too
  }
  return text;
}

}  // namespace

std::optional<Trust> load_trust(const TrustOptions& options, const NodeUrl& listen, std::string* problem) {
  if (*problem = contradiction(options, listen); !problem->empty()) return std::nullopt;
  Trust trust;
  if (options.certificates.any()) {
    auto tls = TlsContext::with_certificates(TlsContext::Side::kDonor, options.certificates, problem);
    if (!tls.ok()) return std::nullopt;
    trust.tls = std::move(tls).value();
  } else if (!options.token_file.empty()) {
    auto token = read_or_make_token(options.token_file, problem);
    if (!token) {
      *problem = "--token-file: " + *problem;
      return std::nullopt;
    }
    trust.token = std::move(*token);
    auto tls = TlsContext::donor_with_token(trust.token);
    if (!tls.ok()) {
      *problem = tls.error().describe();
      return std::nullopt;
    }
    trust.tls = std::move(tls).value();
  }
  return trust;
}

NodeUrl address_for_others(const NodeUrl& listens) {
  const bool any_v4 = listens.host == "0.0.0.0", any_v6 = listens.host == "::";
  ifaddrs* all = nullptr;
  if ((!any_v4 && !any_v6) || getifaddrs(&all) != 0) return listens;
  NodeUrl best = listens;
  for (bool v4 : {true, false}) {  // "::" takes both
    for (const ifaddrs* at = all; at && best.host == listens.host && (v4 || any_v6); at = at->ifa_next) {
      if (!at->ifa_addr || (at->ifa_flags & IFF_UP) == 0 || (at->ifa_flags & IFF_LOOPBACK) != 0) continue;
      if (at->ifa_addr->sa_family != (v4 ? AF_INET : AF_INET6)) continue;
      if (std::string text = text_of(*at->ifa_addr); !text.empty()) best.host = text;
    }
  }
  freeifaddrs(all);
  return best;
}

}  // namespace hecaton
