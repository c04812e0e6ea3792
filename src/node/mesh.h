// Connects the nodes of a VM to each other: two connections between any two, each begun with a greeting
// (greeting.h). The node with the higher number connects, the other listens.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "node/peer_link.h"
#include "transport/credentials.h"
#include "transport/stream.h"

namespace hecaton::node {

struct MeshConfig {
  NodeId self;
  std::vector<NodeUrl> nodes;  // where each listens; one's own, too
  uint64_t vm = 0;             // which one, and which start of it: chosen anew at each start
  uint64_t shape = 0;          // see wire/node_link.h
  std::array<std::byte, 32> secret{};
  Credentials credentials = {};                       // towards nodes that this one connects to
  std::shared_ptr<const TlsContext> trust = nullptr;  // for those that connect here; null: plain TCP
  bool insecure = false;                              // plain TCP off loopback: the user has said that it may be so
};

// One link to each other node, in the order of their numbers. Callers are greeted side by side; those whose greeting is
// wrong are dropped, and waiting goes on. Error: a node was not there by the deadline, ended again before all were, or
// is not one of this VM; `problem`, if given, then says for the user which, where, and what to do. The listener is
// closed before it returns: whoever calls from then on is refused, not kept waiting.
Result<std::vector<PeerLink>> connect_mesh(const MeshConfig& config, TcpListener listener, Deadline by,
                                           std::string* problem = nullptr);

}  // namespace hecaton::node
