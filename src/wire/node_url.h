// Where a donor is, [hecaton://|rdma://][TOKEN@]HOST[:PORT], and files with one of these a line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hecaton {

inline constexpr uint16_t kDefaultPort = 9999;

struct NodeUrl {
  std::string token;  // empty: none
  std::string host;   // a name, an IPv4 address, or an IPv6 address without its brackets
  uint16_t port = kDefaultPort;
  bool rdma = false;  // over RDMA, not TCP

  // As a person writes it, without the token: safe to print. HOST:PORT, or rdma://HOST:PORT.
  // parse_node_url() takes it back.
  std::string printable() const;
  // The same with the token, if there is one: a secret, for whoever is to connect.
  std::string with_token() const;
  // The machine itself: 127.0.0.0/8, ::1, localhost.
  bool is_loopback() const;
  bool operator==(const NodeUrl&) const = default;
};

Result<NodeUrl> parse_node_url(std::string_view text);
// HOST:PORT to listen on; port 0 is allowed and means any.
Result<NodeUrl> parse_listen_address(std::string_view text);

struct NodesFileProblem {
  size_t line;       // from 1
  std::string text;  // without tokens
  const char* what;
};
// One URL a line; `#` comments and blank lines are skipped. Problems are collected, all of them.
std::vector<NodeUrl> parse_nodes_file(std::string_view content, std::vector<NodesFileProblem>* problems);

}  // namespace hecaton
