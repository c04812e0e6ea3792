#include "node/mesh.h"

#include <openssl/crypto.h>
#include <poll.h>

#include <algorithm>
#include <array>

#include "transport/tls_stream.h"

namespace hecaton::node {
namespace {

using wire::NodeHello;

// A stranger that connects and says nothing must not keep the others waiting for long.
constexpr int64_t kHelloMs = 2000;
constexpr int64_t kRetryMs = 20;

using Streams = std::array<std::unique_ptr<Stream>, wire::kLanes>;

NodeHello hello_of(const MeshConfig& config, Lane lane) {
  return NodeHello{lane, config.self, config.vm, config.shape, config.secret};
}

Result<void> send_hello(Stream& stream, const NodeHello& hello, Deadline by) {
  std::array<std::byte, wire::kNodeHelloBytes> bytes{};
  encode(hello, bytes);
  return send_all(stream, bytes, by);
}

Result<NodeHello> receive_hello(const MeshConfig& config, Stream& stream, Deadline by) {
  std::array<std::byte, wire::kNodeHelloBytes> bytes{};
  HEC_TRY(receive_all(stream, bytes, by));
  NodeHello hello = HEC_TRY(wire::decode_node_hello(bytes));
  // In constant time: how far a guess is right is nobody's business.
  if (CRYPTO_memcmp(hello.secret.data(), config.secret.data(), hello.secret.size()) != 0 || hello.vm != config.vm) {
    return Error{ErrorCode::kUntrusted, 0, "a node of another VM, or of another start of it"};
  }
  if (hello.shape != config.shape) return Error{ErrorCode::kProtocol, 0, "a node that divides guest memory otherwise"};
  if (hello.node.value >= config.nodes.size())
    return Error{ErrorCode::kProtocol, 0, "a node with an impossible number"};
  return hello;
}

Result<std::unique_ptr<Stream>> call(const MeshConfig& config, NodeId to, Lane lane, Deadline by) {
  const NodeUrl& url = config.nodes[to.value];
  if (!url.is_loopback() && !config.credentials.cover(url) && !config.insecure) {
    return Error{ErrorCode::kUntrusted, 0,
                 "a node on another machine, without TLS: guest memory would travel in the open"};
  }
  for (;;) {
    Result<std::unique_ptr<Stream>> stream = connect_to(url, config.credentials, by);
    if (!stream.ok()) {
      // It may be about to start.
      if (stream.error().code != ErrorCode::kUnavailable || by.passed()) return stream.error();
      poll(nullptr, 0, kRetryMs);
      continue;
    }
    HEC_TRY(send_hello(**stream, hello_of(config, lane), by));
    const NodeHello answer = HEC_TRY(receive_hello(config, **stream, by));
    if (answer.node != to || answer.lane != lane) return Error{ErrorCode::kProtocol, 0, "another node than was called"};
    return stream;
  }
}

// One connection that waits: null if it was none of ours.
Result<std::unique_ptr<Stream>> answer(const MeshConfig& config, std::unique_ptr<Stream> stream, NodeHello* who) {
  if (config.trust) stream = TlsStream::accept(config.trust, std::move(stream), {});
  if (!stream) return Error{ErrorCode::kSystem, 0, "a connection between nodes"};
  const Deadline by = Deadline::after_ms(kHelloMs);
  *who = HEC_TRY(receive_hello(config, *stream, by));
  if (who->node <= config.self) return Error{ErrorCode::kProtocol, 0, "a node that should have listened"};
  HEC_TRY(send_hello(*stream, hello_of(config, who->lane), by));
  return stream;
}

Result<void> accept_higher(const MeshConfig& config, const TcpListener& listener, Deadline by,
                           std::vector<Streams>& streams) {
  size_t missing = (config.nodes.size() - config.self.value - 1) * wire::kLanes;
  while (missing > 0) {
    pollfd waiting{listener.fd(), POLLIN, 0};
    if (poll(&waiting, 1, by.remaining_ms()) == 0) return Error{ErrorCode::kTimeout, 0, "not all nodes have come"};
    std::unique_ptr<Stream> stream = HEC_TRY(listener.accept());
    if (!stream) continue;
    NodeHello who;
    Result<std::unique_ptr<Stream>> proven = answer(config, std::move(stream), &who);
    if (!proven.ok()) continue;  // whoever that was
    std::unique_ptr<Stream>& place = streams[who.node.value][static_cast<size_t>(who.lane)];
    if (!place) --missing;
    place = std::move(proven).value();  // a second call means that the first got no answer
  }
  return {};
}

}  // namespace

Result<std::vector<PeerLink>> connect_mesh(const MeshConfig& config, const TcpListener& listener, Deadline by) {
  if (!listener.address().is_loopback() && !config.trust && !config.insecure) {
    return Error{ErrorCode::kUntrusted, 0,
                 "listening beyond loopback without TLS: guest memory would travel in the open"};
  }
  std::vector<Streams> streams(config.nodes.size());
  for (size_t to = 0; to < config.self.value; ++to) {
    for (Lane lane : {Lane::kUrgent, Lane::kPages}) {
      streams[to][static_cast<size_t>(lane)] = HEC_TRY(call(config, NodeId(to), lane, by));
    }
  }
  HEC_TRY(accept_higher(config, listener, by, streams));
  std::vector<PeerLink> links;
  for (size_t i = 0; i < streams.size(); ++i) {
    if (i != config.self.value) links.emplace_back(NodeId(i), std::move(streams[i][0]), std::move(streams[i][1]));
  }
  return links;
}

}  // namespace hecaton::node
