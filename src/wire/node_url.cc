#include "wire/node_url.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "wire/token.h"

namespace hecaton {
namespace {

Error bad(const char* what) {
  return Error{ErrorCode::kInvalidArgument, 0, what};
}

// Tokens of ours have 32 characters. No host's name is that long without a dot.
bool is_token_alone(std::string_view host) {
  return host.size() >= 32 && host.find('.') == std::string_view::npos &&
         std::any_of(host.begin(), host.end(), [](unsigned char c) { return isupper(c); });
}

bool valid_host_name(std::string_view host) {
  if (host.empty() || host.size() > 253 || host.front() == '-' || host.front() == '.') return false;
  return std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_';
  });
}

// A name of digits and dots is an IPv4 address or a mistake, never a host name.
bool looks_like_ipv4(std::string_view host) {
  return std::all_of(host.begin(), host.end(), [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
}

Result<uint16_t> parse_port(std::string_view text, uint16_t lowest) {
  unsigned number = 0;
  auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc() || end != text.data() + text.size() || text.empty() || number > 65535 || number < lowest) {
    return bad("the port is not a number from 1 to 65535");
  }
  return static_cast<uint16_t>(number);
}

Result<NodeUrl> parse_address(std::string_view text, uint16_t lowest_port) {
  NodeUrl url;
  std::string_view port;
  bool has_port = false;
  if (!text.empty() && text.front() == '[') {
    size_t close = text.find(']');
    if (close == std::string_view::npos) return bad("an IPv6 address needs its closing ']'");
    url.host = text.substr(1, close - 1);
    in6_addr address;
    if (inet_pton(AF_INET6, url.host.c_str(), &address) != 1) return bad("that is not an IPv6 address");
    std::string_view rest = text.substr(close + 1);
    if (!rest.empty() && rest.front() != ':') return bad("after ']' only :PORT may follow");
    has_port = !rest.empty();
    port = has_port ? rest.substr(1) : rest;
  } else {
    size_t colon = text.find(':');
    if (colon != text.rfind(':')) return bad("an IPv6 address is written in brackets: [::1]:9999");
    has_port = colon != std::string_view::npos;
    url.host = text.substr(0, colon);
    port = has_port ? text.substr(colon + 1) : std::string_view();
    if (url.host.empty()) return bad("the host is missing");
    in_addr address;
    if (looks_like_ipv4(url.host) && inet_pton(AF_INET, url.host.c_str(), &address) != 1) {
      return bad("that is not an IPv4 address");
    }
    if (!valid_host_name(url.host)) return bad("the host holds a character that no host name has");
    if (is_token_alone(url.host)) return bad("that is a token without its host: TOKEN@HOST");
  }
  if (has_port) url.port = HEC_TRY(parse_port(port, lowest_port));
  return url;
}

}  // namespace

std::string NodeUrl::printable() const {
  const char* scheme = rdma ? "rdma://" : "";
  return host.find(':') == std::string::npos ? fmt::format("{}{}:{}", scheme, host, port)
                                             : fmt::format("{}[{}]:{}", scheme, host, port);
}

std::string NodeUrl::with_token() const {
  if (token.empty()) return printable();
  const NodeUrl address{{}, host, port, false};
  return fmt::format("{}{}@{}", rdma ? "rdma://" : "hecaton://", token, address.printable());
}

bool NodeUrl::is_loopback() const {
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

Result<NodeUrl> parse_node_url(std::string_view text) {
  constexpr std::string_view kScheme = "hecaton://", kRdmaScheme = "rdma://";
  const bool rdma = text.starts_with(kRdmaScheme);
  if (text.find("://") != std::string_view::npos && !rdma && !text.starts_with(kScheme)) {
    return bad("the only schemes are hecaton:// and rdma://");
  }
  if (rdma) {
    text.remove_prefix(kRdmaScheme.size());
  } else if (text.starts_with(kScheme)) {
    text.remove_prefix(kScheme.size());
  }
  if (text.find("://") != std::string_view::npos) return bad("one scheme is enough");
  if (text.ends_with('/')) text.remove_suffix(1);
  std::string token;
  if (size_t at = text.rfind('@'); at != std::string_view::npos) {
    token = text.substr(0, at);
    if (token.empty()) return bad("the token before '@' is empty");
    if (!has_token_characters(token)) return bad("a token is one word of letters, digits and -._~");
    text.remove_prefix(at + 1);
  }
  NodeUrl url = HEC_TRY(parse_address(text, 1));
  url.token = std::move(token);
  url.rdma = rdma;
  return url;
}

Result<NodeUrl> parse_listen_address(std::string_view text) {
  if (text.find("://") != std::string_view::npos) return bad("an address to listen on has no scheme: HOST:PORT");
  return parse_address(text, 0);
}

std::vector<NodeUrl> parse_nodes_file(std::string_view content, std::vector<NodesFileProblem>* problems) {
  std::vector<NodeUrl> nodes;
  size_t line_number = 0;
  if (content.starts_with("\xef\xbb\xbf")) content.remove_prefix(3);  // some editors mark UTF-8 so
  while (!content.empty()) {
    size_t end = content.find('\n');
    std::string_view line = content.substr(0, end);
    content.remove_prefix(end == std::string_view::npos ? content.size() : end + 1);
    ++line_number;
    line = line.substr(0, line.find('#'));
    size_t first = line.find_first_not_of(" \t\r");
    if (first == std::string_view::npos) continue;
    line = line.substr(first, line.find_last_not_of(" \t\r") - first + 1);
    Result<NodeUrl> url = parse_node_url(line);
    if (!url.ok()) {
      problems->push_back({line_number, without_tokens(line), url.error().context});
    } else if (std::find(nodes.begin(), nodes.end(), *url) != nodes.end()) {
      problems->push_back({line_number, without_tokens(line), "this donor is named twice"});
    } else {
      nodes.push_back(std::move(*url));
    }
  }
  return nodes;
}

}  // namespace hecaton
