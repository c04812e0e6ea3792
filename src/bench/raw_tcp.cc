#include "bench/raw_tcp.h"

#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <random>
#include <thread>

#include "base/clock.h"
#include "os/open_files.h"
#include "os/poller.h"
#include "os/scheduling.h"

namespace hecaton::bench {
namespace {

constexpr int64_t kConnectMs = 10'000;
constexpr uint64_t kOwnDescriptors = 64;  // what a process needs besides
// A listener's queue is never too short for its connections, and no port's peers run out of port numbers.
constexpr size_t kConnectionsOfListener = 2000;
// The helper gives its processor up when nobody has measured for so long.
constexpr int64_t kSpinNs = 20'000'000;

size_t listeners_for(size_t connections) {
  return (connections + kConnectionsOfListener - 1) / kConnectionsOfListener;
}

// Moves all of `bytes` without sleeping. False: the connection is closed.
template <typename Call>
bool spin(size_t bytes, Call call) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t moved = call(done);
    if (moved > 0) done += static_cast<size_t>(moved);
    if (moved == 0 || (moved < 0 && errno != EAGAIN && errno != EINTR)) return false;
  }
  return true;
}

bool send_all(int fd, std::vector<std::byte>& bytes) {
  return spin(bytes.size(), [&](size_t done) {
    return send(fd, bytes.data() + done, bytes.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
  });
}

bool receive_all(int fd, std::vector<std::byte>& bytes) {
  return spin(bytes.size(),
              [&](size_t done) { return recv(fd, bytes.data() + done, bytes.size() - done, MSG_DONTWAIT); });
}

// The helper: one thread, its connections in one epoll.
class Answerer {
 public:
  static Result<Answerer> listen(size_t listeners) {
    Answerer answerer(HEC_TRY(Poller::create()));
    for (size_t i = 0; i < listeners; ++i) {
      answerer.listeners_.push_back(HEC_TRY(TcpListener::listen(NodeUrl{.token = {}, .host = "127.0.0.1", .port = 0})));
      HEC_TRY(answerer.poller_.add(answerer.listeners_.back().fd(), EPOLLIN, kListener + i));
    }
    return answerer;
  }

  std::vector<uint16_t> ports() const {
    std::vector<uint16_t> ports;
    for (const TcpListener& listener : listeners_) ports.push_back(listener.address().port);
    return ports;
  }

  Error serve() {
    for (int64_t used_ns = 0;;) {
      const int64_t now = monotonic_ns();
      const size_t count = poller_.wait(events_, now - used_ns < kSpinNs ? 0 : -1);
      if (count > 0) used_ns = now;
      for (size_t i = 0; i < count; ++i) {
        const uint64_t token = events_[i].data.u64;
        if (token < kListener) {
          answer(static_cast<int>(token));
        } else if (Result<void> taken = accept(listeners_[token - kListener]); !taken.ok()) {
          return taken.error();
        }
      }
    }
  }

 private:
  static constexpr uint64_t kListener = uint64_t{1} << 32;  // beyond all descriptors

  explicit Answerer(Poller poller) : poller_(std::move(poller)) {}

  void answer(int fd) {
    if (!receive_all(fd, request_) || !send_all(fd, reply_)) poller_.remove(fd);
  }

  Result<void> accept(const TcpListener& listener) {
    for (;;) {
      std::unique_ptr<Stream> stream = HEC_TRY(listener.accept());
      if (!stream) return {};
      HEC_TRY(poller_.add(stream->fd(), EPOLLIN, static_cast<uint64_t>(stream->fd())));
      streams_.push_back(std::move(stream));
    }
  }

  Poller poller_;
  std::vector<TcpListener> listeners_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::array<epoll_event, 64> events_;
  std::vector<std::byte> request_ = std::vector<std::byte>(kReadRequestBytes);
  std::vector<std::byte> reply_ = std::vector<std::byte>(kReadReplyBytes);
};

}  // namespace

Result<RawTcp> RawTcp::start(size_t connections) {
  raise_open_files(count_open_files() + connections + kOwnDescriptors);
  RawTcp tcp;
  tcp.helper_ =
      HEC_TRY(HelperProcess::start({"internal-tcp", std::to_string(connections)}, listeners_for(connections)));
  HEC_TRY(tcp.connect(connections, tcp.helper_.addresses()));
  HEC_TRY(tcp.use_each_once());
  return tcp;
}

Result<void> RawTcp::connect(size_t connections, const std::vector<NodeUrl>& addresses) {
  for (size_t i = 0; i < connections; ++i) {
    streams_.push_back(HEC_TRY(connect_tcp(addresses[i % addresses.size()], Deadline::after_ms(kConnectMs))));
    descriptors_.push_back(streams_.back()->fd());
  }
  return {};
}

Result<void> RawTcp::use_each_once() {
  std::vector<std::byte> request(kReadRequestBytes), reply(kReadReplyBytes);
  for (int fd : descriptors_) {
    if (!send_all(fd, request) || !receive_all(fd, reply)) return Error{ErrorCode::kClosed, 0, "raw TCP to a helper"};
  }
  return {};
}

Result<Quantiles> RawTcp::measure(size_t rounds, uint64_t seed) {
  std::vector<int64_t> samples;
  bool closed = false;
  std::thread client([&, here = two_processors().first] {
    (void)run_only_on(here);
    std::mt19937_64 random(seed);
    std::vector<std::byte> request(kReadRequestBytes), reply(kReadReplyBytes);
    for (size_t i = 0; i < rounds && !closed; ++i) {
      const int fd = descriptors_[random() % descriptors_.size()];
      const int64_t start = monotonic_ns();
      closed = !send_all(fd, request) || !receive_all(fd, reply);
      samples.push_back(monotonic_ns() - start);
    }
  });
  client.join();
  if (closed) return Error{ErrorCode::kClosed, 0, "raw TCP to a helper"};
  return quantiles_of(samples);
}

std::string serve_raw_tcp(size_t connections) {
  prctl(PR_SET_NAME, "hecaton-tcp");
  raise_open_files(connections + listeners_for(connections) + kOwnDescriptors);
  (void)run_only_on(two_processors().second);
  Result<Answerer> answerer = Answerer::listen(listeners_for(connections));
  if (!answerer.ok()) return answerer.error().describe();
  if (!say_ports(answerer->ports())) return "nobody reads the ports";
  return answerer->serve().describe();
}

}  // namespace hecaton::bench
