// How two nodes of a VM begin a connection: each says what it is, and proves that it knows the VM's secret
// (wire/node_link.h draws it). Who calls proves first: a stranger gets no proof to work on.
//
// The contexts of errors are for the user: what is wrong with the other node, and what to do. kClosed: it hung up
// before that could be told.
#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "transport/stream.h"
#include "wire/node_link.h"

namespace hecaton::node {

using wire::Lane;

// What this node says of itself, and the secret that both must know.
struct Greeting {
  NodeId self;
  uint64_t vm = 0;
  uint64_t shape = 0;  // see wire/node_link.h
  std::array<std::byte, 32> secret{};
};

// On a fresh connection to node `to`.
Result<void> greet_callee(const Greeting& mine, Stream& stream, NodeId to, Lane lane, Deadline by);

// On one that came: who it is, and which lane. `claimed`, if it said a hello: who it says it is, proven or not.
struct Caller {
  NodeId node;
  Lane lane = Lane::kUrgent;
};
Result<Caller> greet_caller(const Greeting& mine, Stream& stream, size_t nodes, Deadline by,
                            std::optional<NodeId>* claimed);

}  // namespace hecaton::node
