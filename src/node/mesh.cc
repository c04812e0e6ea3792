#include "node/mesh.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>

#include "node/greeting.h"
#include "transport/tls_stream.h"

namespace hecaton::node {
namespace {

// A stranger that connects and says nothing must not keep the others waiting for long.
constexpr int64_t kGreetingMs = 2000;
constexpr int64_t kRetryMs = 20;

using Streams = std::array<std::unique_ptr<Stream>, wire::kLanes>;

Greeting greeting_of(const MeshConfig& config) {
  return Greeting{config.self, config.vm, config.shape, config.secret};
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
    HEC_TRY(greet_callee(greeting_of(config), **stream, to, lane, by));
    return stream;
  }
}

// One connection that waits. Error: it was none of ours, and `refusal` says who and why.
Result<std::unique_ptr<Stream>> answer(const MeshConfig& config, std::unique_ptr<Stream> stream, Caller* who,
                                       std::string* refusal) {
  if (config.trust) stream = TlsStream::accept(config.trust, std::move(stream), {});
  if (!stream) return Error{ErrorCode::kSystem, 0, "a connection between nodes"};
  std::optional<NodeId> claimed;
  Result<Caller> greeted =
      greet_caller(greeting_of(config), *stream, config.nodes.size(), Deadline::after_ms(kGreetingMs), &claimed);
  if (!greeted.ok()) {
    *refusal = claimed
                   ? fmt::format("a caller that says that it is node {}: {}", claimed->value, greeted.error().context)
                   : fmt::format("a caller that says nothing of itself: {}", greeted.error().context);
    return greeted.error();
  }
  *who = *greeted;
  return stream;
}

std::string describe(const MeshConfig& config, const std::vector<Streams>& streams, const std::string& last_refusal) {
  std::string text;
  for (size_t i = config.self.value + 1u; i < streams.size(); ++i) {
    if (streams[i][0] && streams[i][1]) continue;
    text += fmt::format("{}node {} at {}", text.empty() ? "" : ", ", i, config.nodes[i].printable());
  }
  text += " has not connected to " + config.nodes[config.self.value].printable();
  return last_refusal.empty() ? text + ": is it running, with the same list of nodes?"
                              : text + "; turned away last: " + last_refusal;
}

Result<void> accept_higher(const MeshConfig& config, const TcpListener& listener, Deadline by,
                           std::vector<Streams>& streams, std::string* problem) {
  size_t missing = (config.nodes.size() - config.self.value - 1) * wire::kLanes;
  std::string last_refusal;
  while (missing > 0) {
    pollfd waiting{listener.fd(), POLLIN, 0};
    if (poll(&waiting, 1, by.remaining_ms()) == 0) {
      *problem = describe(config, streams, last_refusal);
      return Error{ErrorCode::kTimeout, 0, "not all nodes have come"};
    }
    std::unique_ptr<Stream> stream = HEC_TRY(listener.accept());
    if (!stream) continue;
    Caller who;
    Result<std::unique_ptr<Stream>> proven = answer(config, std::move(stream), &who, &last_refusal);
    if (!proven.ok()) continue;  // whoever that was
    std::unique_ptr<Stream>& place = streams[who.node.value][static_cast<size_t>(who.lane)];
    if (!place) --missing;
    place = std::move(proven).value();  // a second call means that the first got no answer
  }
  return {};
}

Result<void> call_lower(const MeshConfig& config, Deadline by, std::vector<Streams>& streams, std::string* problem) {
  for (size_t to = 0; to < config.self.value; ++to) {
    for (Lane lane : {Lane::kUrgent, Lane::kPages}) {
      Result<std::unique_ptr<Stream>> stream = call(config, NodeId(to), lane, by);
      if (!stream.ok()) {
        *problem = fmt::format("node {} at {}: {}", to, config.nodes[to].printable(), stream.error().context);
        return stream.error();
      }
      streams[to][static_cast<size_t>(lane)] = std::move(stream).value();
    }
  }
  return {};
}

// What must hold before anything is said beyond this machine.
Result<void> check_openness(const MeshConfig& config, const TcpListener& listener) {
  if (listener.address().is_loopback()) return {};
  if (!config.trust && !config.insecure) {
    return Error{ErrorCode::kUntrusted, 0,
                 "listening beyond loopback without TLS: guest memory would travel in the open"};
  }
  if (config.secret == decltype(config.secret){}) {
    return Error{ErrorCode::kUntrusted, 0, "listening beyond loopback without a secret: anybody could be a node"};
  }
  return {};
}

}  // namespace

Result<std::vector<PeerLink>> connect_mesh(const MeshConfig& config, const TcpListener& listener, Deadline by,
                                           std::string* problem) {
  std::string unwanted;
  if (problem == nullptr) problem = &unwanted;
  if (Result<void> fit = check_openness(config, listener); !fit.ok()) {
    *problem = fmt::format("{}: {}", listener.address().printable(), fit.error().context);
    return fit.error();
  }
  std::vector<Streams> streams(config.nodes.size());
  HEC_TRY(call_lower(config, by, streams, problem));
  HEC_TRY(accept_higher(config, listener, by, streams, problem));
  std::vector<PeerLink> links;
  for (size_t i = 0; i < streams.size(); ++i) {
    if (i != config.self.value) links.emplace_back(NodeId(i), std::move(streams[i][0]), std::move(streams[i][1]));
  }
  return links;
}

}  // namespace hecaton::node
