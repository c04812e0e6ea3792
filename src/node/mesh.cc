#include "node/mesh.h"

#include <fmt/format.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <deque>

#include "node/greeting.h"
#include "transport/tls_stream.h"

namespace hecaton::node {
namespace {

// As many callers may be in the middle of their greeting; one more, and the one that is so longest is dropped.
// Strangers that connect and say nothing keep nobody waiting so; one of this VM that is dropped calls again.
constexpr size_t kMostCallers = 64;
// And so few are taken at once, that each is listened to a few times before it may have to give way.
constexpr int kAcceptsAtOnce = 16;
constexpr int64_t kRetryMs = 20;

// TLS, of nodes. See tls_words.h.
constexpr TlsWords kWordsOfNodes{
    .no_tls = "it does not use TLS: give all nodes of the VM the same token or certificates",
    .wrong_token = "it does not accept this token: give all nodes of the VM the same one",
    .wants_token = "it wants a token, not certificates: give all nodes of the VM the same token",
    .wants_certificates = "it wants certificates, not a token: give all nodes of the VM certificates of one authority",
    .bad_certificate =
        "its certificate is not one that this node's authority signed for the name or address that the list of nodes "
        "has for it, or has expired",
    .refused_certificate =
        "it does not accept this node's certificate: give all nodes of the VM certificates of one authority",
    .otherwise = "the TLS handshake with it failed: is that port a node's, of this version?",
};

using Streams = std::array<std::unique_ptr<Stream>, wire::kLanes>;

// One that connected here, in the middle of its greeting.
struct Waiting {
  std::unique_ptr<Stream> stream;
  Answer answer;
};

// Why a call to another node failed, for the user.
std::string words_of(const Error& error) {
  if (error.os_error == ECONNREFUSED) {
    return "nobody takes calls there: it is not running, or has begun without this node; start all nodes together";
  }
  return error.os_error != 0 ? error.describe() : error.context;
}

class Mesh {
 public:
  Mesh(const MeshConfig& config, TcpListener listener, Deadline by, std::string& problem)
      : config_(config),
        credentials_(config.credentials.with_words(kWordsOfNodes)),
        listener_(std::move(listener)),
        by_(by),
        problem_(problem),
        mine_{config.self, config.vm, config.shape, config.secret},
        streams_(config.nodes.size()),
        missing_((config.nodes.size() - config.self.value - 1) * wire::kLanes) {}

  Result<void> call_lower();
  Result<void> accept_higher();
  std::vector<PeerLink> links();

 private:
  Result<std::unique_ptr<Stream>> call(NodeId to, Lane lane);
  Result<void> accept_some();
  void advance(Waiting& caller);
  void refuse(const Waiting& caller, const char* why);
  Result<void> look_for_ends();
  std::string whom_it_waits_for() const;

  const MeshConfig& config_;
  const Credentials credentials_;
  const TcpListener listener_;
  const Deadline by_;
  std::string& problem_;
  const Greeting mine_;
  std::vector<Streams> streams_;  // greeted
  size_t missing_;                // of those from higher nodes
  std::deque<Waiting> callers_;   // the first came first; without a stream: done with
  std::string last_refusal_;
};

Result<std::unique_ptr<Stream>> Mesh::call(NodeId to, Lane lane) {
  const NodeUrl& url = config_.nodes[to.value];
  if (!url.is_loopback() && !credentials_.cover(url) && !config_.insecure) {
    return Error{ErrorCode::kUntrusted, 0,
                 "a node on another machine, without TLS: guest memory would travel in the open"};
  }
  for (;;) {
    Result<std::unique_ptr<Stream>> stream = connect_to(url, credentials_, by_);
    Result<void> greeted = stream.ok() ? greet_callee(mine_, **stream, to, lane, by_) : stream.error();
    if (greeted.ok()) return stream;
    // It may be about to start, or have had too many callers.
    const ErrorCode code = greeted.error().code;
    if ((code != ErrorCode::kUnavailable && code != ErrorCode::kClosed) || by_.passed()) return greeted.error();
    HEC_TRY(look_for_ends());
    poll(nullptr, 0, kRetryMs);
  }
}

Result<void> Mesh::call_lower() {
  for (size_t to = 0; to < config_.self.value; ++to) {
    for (Lane lane : {Lane::kUrgent, Lane::kPages}) {
      Result<std::unique_ptr<Stream>> stream = call(NodeId(to), lane);
      if (!stream.ok()) {
        if (problem_.empty()) {
          problem_ = fmt::format("node {} at {}: {}", to, config_.nodes[to].printable(), words_of(stream.error()));
        }
        return stream.error();
      }
      streams_[to][static_cast<size_t>(lane)] = std::move(stream).value();
    }
  }
  return {};
}

// A node that ends before all are connected will not call again.
Result<void> Mesh::look_for_ends() {
  for (size_t i = 0; i < streams_.size(); ++i) {
    for (const std::unique_ptr<Stream>& stream : streams_[i]) {
      if (!stream) continue;
      pollfd watched{stream->fd(), POLLRDHUP, 0};
      if (poll(&watched, 1, 0) <= 0) continue;
      problem_ =
          fmt::format("node {} at {} ended before all nodes were connected: see what it said, and start all again", i,
                      config_.nodes[i].printable());
      return Error{ErrorCode::kClosed, 0, "a node ended before all were connected"};
    }
  }
  return {};
}

std::string Mesh::whom_it_waits_for() const {
  std::string text;
  for (size_t i = config_.self.value + 1u; i < streams_.size(); ++i) {
    if (streams_[i][0] && streams_[i][1]) continue;
    text += fmt::format("{}node {} at {}", text.empty() ? "" : ", ", i, config_.nodes[i].printable());
  }
  text += " has not connected to " + config_.nodes[config_.self.value].printable();
  return last_refusal_.empty() ? text + ": is it running, with the same list of nodes?"
                               : text + "; turned away last: " + last_refusal_;
}

void Mesh::refuse(const Waiting& caller, const char* why) {
  const std::optional<NodeId> claimed = caller.answer.claimed();
  last_refusal_ = claimed ? fmt::format("a caller that says that it is node {}: {}", claimed->value, why)
                          : fmt::format("a caller that says nothing of itself: {}", why);
}

Result<void> Mesh::accept_some() {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    Result<std::unique_ptr<Stream>> accepted = listener_.accept();
    if (!accepted.ok()) {
      problem_ = fmt::format("{}: {}", listener_.address().printable(), accepted.error().describe());
      return accepted.error();
    }
    std::unique_ptr<Stream> stream = std::move(accepted).value();
    if (!stream) return {};
    if (config_.trust) stream = TlsStream::accept(config_.trust, std::move(stream), wire::kWantsTls, kWordsOfNodes);
    if (!stream) continue;
    callers_.push_back({std::move(stream), Answer(mine_, config_.nodes.size())});
    if (callers_.size() <= kMostCallers) continue;
    refuse(callers_.front(), "it was slower than all who called after it");
    callers_.pop_front();
  }
  return {};
}

void Mesh::advance(Waiting& caller) {
  Result<std::optional<Caller>> who = caller.answer.advance(*caller.stream);
  if (who.ok() && !who->has_value()) return;
  std::unique_ptr<Stream> stream = std::move(caller.stream);
  if (!who.ok()) return refuse(caller, who.error().context);
  std::unique_ptr<Stream>& place = streams_[(*who)->node.value][static_cast<size_t>((*who)->lane)];
  if (!place) --missing_;
  place = std::move(stream);
}

Result<void> Mesh::accept_higher() {
  std::vector<pollfd> watched;
  while (missing_ > 0) {
    if (by_.passed()) {
      problem_ = whom_it_waits_for();
      return Error{ErrorCode::kTimeout, 0, "not all nodes have come"};
    }
    watched.assign(1, {listener_.fd(), POLLIN, 0});
    for (const Waiting& caller : callers_) {
      watched.push_back({caller.stream->fd(), caller.stream->receive_events(), 0});
    }
    const size_t callers = callers_.size();
    for (const Streams& lanes : streams_) {
      for (const std::unique_ptr<Stream>& stream : lanes) {
        if (stream) watched.push_back({stream->fd(), POLLRDHUP, 0});
      }
    }
    if (poll(watched.data(), watched.size(), by_.remaining_ms()) <= 0) continue;
    HEC_TRY(look_for_ends());
    for (size_t i = 0; i < callers; ++i) {
      if (watched[1 + i].revents != 0) advance(callers_[i]);
    }
    std::erase_if(callers_, [](const Waiting& caller) { return !caller.stream; });
    if (watched[0].revents != 0) HEC_TRY(accept_some());
  }
  return {};
}

std::vector<PeerLink> Mesh::links() {
  std::vector<PeerLink> links;
  for (size_t i = 0; i < streams_.size(); ++i) {
    if (i != config_.self.value) links.emplace_back(NodeId(i), std::move(streams_[i][0]), std::move(streams_[i][1]));
  }
  return links;
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

Result<std::vector<PeerLink>> connect_mesh(const MeshConfig& config, TcpListener listener, Deadline by,
                                           std::string* problem) {
  std::string unwanted;
  if (problem == nullptr) problem = &unwanted;
  if (Result<void> fit = check_openness(config, listener); !fit.ok()) {
    *problem = fmt::format("{}: {}", listener.address().printable(), fit.error().context);
    return fit.error();
  }
  problem->clear();
  Mesh mesh(config, std::move(listener), by, *problem);
  HEC_TRY(mesh.call_lower());
  HEC_TRY(mesh.accept_higher());
  return mesh.links();
}

}  // namespace hecaton::node
