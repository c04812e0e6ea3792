#include "transport/stream.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "base/random.h"
#include "transport/rdma.h"
#include "transport/resolve.h"

namespace hecaton {
namespace {

// Whether both ends of a TCP connection have the same address: then no other machine is involved.
bool peer_is_local(int fd) {
  sockaddr_storage own{}, peer{};
  socklen_t own_bytes = sizeof own, peer_bytes = sizeof peer;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_bytes) != 0) return false;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_bytes) != 0) return false;
  if (own.ss_family != peer.ss_family) return false;
  auto same = [&](auto address_of) { return address_of(own) == address_of(peer); };
  if (own.ss_family == AF_INET) {
    return same([](sockaddr_storage& at) { return reinterpret_cast<sockaddr_in&>(at).sin_addr.s_addr; });
  }
  if (own.ss_family != AF_INET6) return false;
  return IN6_ARE_ADDR_EQUAL(&reinterpret_cast<sockaddr_in6&>(own).sin6_addr,
                            &reinterpret_cast<sockaddr_in6&>(peer).sin6_addr);
}

class FdStream final : public Stream {
 public:
  explicit FdStream(OwnedFd fd) : fd_(std::move(fd)), local_(peer_is_local(fd_.get())) {}

  IoResult receive(std::span<std::byte> into) override {
    return outcome_of([&] { return recv(fd_.get(), into.data(), into.size(), MSG_DONTWAIT); });
  }
  IoResult send(std::span<const iovec> pieces) override {
    if (pieces.size() == 1) {  // a demand read: the plain call is the shorter one
      return outcome_of([&] { return ::send(fd_.get(), pieces[0].iov_base, pieces[0].iov_len, kSendFlags); });
    }
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(pieces.data());
    message.msg_iovlen = pieces.size();
    return outcome_of([&] { return sendmsg(fd_.get(), &message, kSendFlags); });
  }
  int fd() const override { return fd_.get(); }
  bool finish_sending() override { return shutdown(fd_.get(), SHUT_WR) == 0; }
  // Loopback handles a packet on the processor that sends it. Source: socket(7), SO_INCOMING_CPU.
  std::optional<unsigned> local_peer_processor() const override {
    int processor = -1;
    socklen_t length = sizeof processor;
    if (!local_ || getsockopt(fd_.get(), SOL_SOCKET, SO_INCOMING_CPU, &processor, &length) != 0) return std::nullopt;
    return processor < 0 ? std::nullopt : std::optional(static_cast<unsigned>(processor));
  }

 private:
  static constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
  template <typename Call>
  IoResult outcome_of(Call call) {
    for (;;) {
      ssize_t done = call();
      if (done > 0) return {IoResult::Kind::kBytes, static_cast<size_t>(done)};
      if (done < 0 && errno == EINTR) continue;
      if (done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {IoResult::Kind::kWouldBlock, 0};
      return {IoResult::Kind::kClosed, 0};
    }
  }
  OwnedFd fd_;
  const bool local_;
};

bool wait_for(int fd, short events, Deadline by) {
  for (;;) {
    pollfd waiting{fd, events, 0};
    int ready = poll(&waiting, 1, by.remaining_ms());
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return false;
  }
}

// `impatient`: give up when the peer takes nothing for ten seconds. Not for a donor's side, whose pager may be stopped
// for a while with answers unread.
void tune(int fd, bool impatient) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  // A donor whose machine vanished is noticed within ten to twenty seconds even on an idle connection. Each connection
  // has a time of its own: thousands that were made at once would all ask at once, again and again, and the kernel
  // drops what exceeds its queue of a thousand packets (net.core.netdev_max_backlog); lost questions end connections. A
  // donor is in no hurry to miss a pager. The last number ends the asking, not `count`: see tcp(7), TCP_USER_TIMEOUT.
  int idle = impatient ? 5 + static_cast<int>(random_id() % 11) : 60;
  int interval = impatient ? 1 : 30, count = 5;
  int user_timeout_ms = impatient ? (idle + count * interval) * 1000 : 600'000;
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms);
}

Result<OwnedFd> connect_one(const addrinfo& address, Deadline by) {
  OwnedFd fd(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, address.ai_protocol));
  if (!fd.valid()) return system_error("socket");
  if (connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return system_error("connecting", ErrorCode::kUnavailable);
    if (!wait_for(fd.get(), POLLOUT, by)) return Error{ErrorCode::kTimeout, 0, "no answer to the connection attempt"};
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) return Error{ErrorCode::kUnavailable, error, "connecting"};
  }
  tune(fd.get(), true);
  return fd;
}

Error closed(const Stream& stream) {
  if (const char* why = stream.why_closed()) return Error{ErrorCode::kUntrusted, 0, why};
  return Error{ErrorCode::kClosed, 0, "the peer closed the connection"};
}

NodeUrl bound_address(int fd, const NodeUrl& asked) {
  NodeUrl bound = asked;
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0) {
    bound.port = address.ss_family == AF_INET6 ? ntohs(reinterpret_cast<sockaddr_in6&>(address).sin6_port)
                                               : ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port);
  }
  return bound;
}

}  // namespace

Result<AddressList> resolve(const NodeUrl& url, bool passive) {
  AddressList addresses;
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  int status = getaddrinfo(url.host.c_str(), std::to_string(url.port).c_str(), &hints, &addresses.first);
  if (status != 0) return Error{ErrorCode::kUnavailable, 0, "the host name is not known"};
  return addresses;
}

Result<std::unique_ptr<Stream>> connect_to(const NodeUrl& url, const Credentials& credentials, Deadline by) {
  if (url.rdma && !url.token.empty()) return Error{ErrorCode::kUntrusted, 0, kRdmaWithToken};
  if (url.rdma) return connect_rdma(url, by);
  std::unique_ptr<Stream> stream = HEC_TRY(connect_tcp(url, by));
  return credentials.cover(url) ? credentials.secure(std::move(stream), url, by) : std::move(stream);
}

Result<std::unique_ptr<Stream>> connect_tcp(const NodeUrl& to, Deadline by) {
  AddressList addresses = HEC_TRY(resolve(to, false));
  Error last{ErrorCode::kUnavailable, 0, "the host has no address"};
  for (const addrinfo* address = addresses.first; address; address = address->ai_next) {
    Result<OwnedFd> fd = connect_one(*address, by);
    if (fd.ok()) return std::unique_ptr<Stream>(std::make_unique<FdStream>(std::move(fd).value()));
    last = fd.error();
  }
  return last;
}

Result<std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>>> in_process_pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return system_error("socketpair");
  return std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>>(std::make_unique<FdStream>(OwnedFd(ends[0])),
                                                                     std::make_unique<FdStream>(OwnedFd(ends[1])));
}

Result<TcpListener> TcpListener::listen(const NodeUrl& at) {
  AddressList addresses = HEC_TRY(resolve(at, true));
  const addrinfo& address = *addresses.first;
  OwnedFd fd(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, address.ai_protocol));
  if (!fd.valid()) return system_error("socket");
  int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0) return system_error("binding the address");
  if (::listen(fd.get(), SOMAXCONN) != 0) return system_error("listening");
  NodeUrl bound = bound_address(fd.get(), at);
  return TcpListener(std::move(fd), std::move(bound));
}

Result<std::unique_ptr<Stream>> TcpListener::accept() const {
  OwnedFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return std::unique_ptr<Stream>();
    return system_error("accepting a connection");
  }
  tune(fd.get(), false);
  return std::unique_ptr<Stream>(std::make_unique<FdStream>(std::move(fd)));
}

Result<void> send_all(Stream& stream, std::span<const std::byte> bytes, Deadline by) {
  while (!bytes.empty()) {
    iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
    IoResult sent = stream.send(std::span(&piece, 1));
    if (sent.kind == IoResult::Kind::kClosed) return closed(stream);
    if (sent.kind == IoResult::Kind::kBytes) bytes = bytes.subspan(sent.bytes);
    if (sent.kind == IoResult::Kind::kWouldBlock && !wait_for(stream.fd(), stream.send_events(), by)) {
      return Error{ErrorCode::kTimeout, 0, "the peer takes no data"};
    }
  }
  return {};
}

Result<size_t> receive_now(Stream& stream, std::span<std::byte> into) {
  const IoResult got = stream.receive(into);
  if (got.kind == IoResult::Kind::kClosed) return closed(stream);
  return got.kind == IoResult::Kind::kBytes ? got.bytes : 0;
}

Result<void> receive_all(Stream& stream, std::span<std::byte> into, Deadline by) {
  while (!into.empty()) {
    const size_t bytes = HEC_TRY(receive_now(stream, into));
    into = into.subspan(bytes);
    if (bytes == 0 && !wait_for(stream.fd(), stream.receive_events(), by)) {
      return Error{ErrorCode::kTimeout, 0, "the peer does not answer"};
    }
  }
  return {};
}

}  // namespace hecaton
