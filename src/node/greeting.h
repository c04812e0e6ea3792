// How two nodes of a VM begin a connection: each says what it is, and proves that it knows the VM's secret
// (wire/node_link.h draws it). Who calls proves first: a stranger gets no proof to work on.
//
// The contexts of errors are for the user: what is wrong with the other node, and what to do. kClosed: it hung up
// without a reason, and may be called again.
#pragma once

#include <array>
#include <optional>
#include <span>

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

// The other side, on a connection that came: in steps that never wait, so that many callers are greeted at once.
struct Caller {
  NodeId node;
  Lane lane = Lane::kUrgent;
};
class Answer {
 public:
  // `nodes`: how many the VM has.
  Answer(const Greeting& mine, size_t nodes) : mine_(mine), nodes_(nodes) {}

  // Takes what has come, and says what is due. Nothing: more has to come, see receive_now(). Error: it is to be hung up
  // on.
  Result<std::optional<Caller>> advance(Stream& stream);
  // If it said a hello: who it says it is, proven or not.
  std::optional<NodeId> claimed() const;

 private:
  Result<bool> fill(Stream& stream, std::span<std::byte> whole);
  Result<void> answer_hello(Stream& stream);

  Greeting mine_;
  size_t nodes_;
  std::optional<wire::NodeHello> theirs_;
  std::array<std::byte, wire::kNodeHelloBytes> caller_{}, callee_{};  // hellos
  std::array<std::byte, wire::kNodeProofBytes> proof_{};
  size_t filled_ = 0;  // of what is being received
};

}  // namespace hecaton::node
