// A byte stream between a pager and a donor: TCP, TLS, RDMA, or in-process for tests. Non-blocking; poll fd() for
// readiness.
// One thread at a time; sending and receiving count as one.
#pragma once

#include <poll.h>
#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "os/owned_fd.h"
#include "transport/credentials.h"
#include "transport/direct_memory.h"
#include "wire/node_url.h"

namespace hecaton {

struct IoResult {
  enum class Kind : uint8_t { kBytes, kWouldBlock, kClosed };
  Kind kind;
  size_t bytes = 0;  // of kBytes: at least 1
};

class Stream {
 public:
  virtual ~Stream() = default;
  // Fewer bytes than there is room for: there are no more now, and fd() becomes ready when there are.
  virtual IoResult receive(std::span<std::byte> into) = 0;
  // What is not taken, all of it or the rest, comes first in the next send.
  virtual IoResult send(std::span<const iovec> pieces) = 0;
  virtual int fd() const = 0;
  // What to poll fd() for when send(), or receive(), would block.
  virtual short send_events() const { return POLLOUT; }
  virtual short receive_events() const { return POLLIN; }
  // The last receive() may have left bytes for which fd() does not become ready. Whoever stops before there are no more
  // must come back by itself.
  virtual bool holds_input() const { return false; }
  // If the stream ended for want of trust: what was wrong, for the user. Else null.
  virtual const char* why_closed() const { return nullptr; }
  // 32 bytes that only the two ends of this very connection have; false if it is not encrypted. What a peer proves
  // about them, nobody in the middle can have passed on.
  virtual bool bind(std::span<std::byte, 32> out) const {
    (void)out;
    return false;
  }
  // Nothing more is sent; the peer learns it after what was sent. False: it is gone already.
  virtual bool finish_sending() = 0;
  // One-sided reads beside the stream, and the memory for them; null where there are none.
  virtual DirectReader* direct_reader() { return nullptr; }
  virtual MemoryExposer* memory_exposer() { return nullptr; }
  // If the peer is on this machine: the processor from which it sent last, as far as is known.
  virtual std::optional<unsigned> local_peer_processor() const { return std::nullopt; }
};

// Over TCP or RDMA, as the URL says: see connect_tcp() and connect_rdma(). TCP is encrypted, and the donor has proven
// itself, where the credentials cover the donor. Error: also kUntrusted, whose context is for the user.
Result<std::unique_ptr<Stream>> connect_to(const NodeUrl& url, const Credentials& credentials, Deadline by);

// Connects within the deadline. Error: kUnavailable (nobody listens, no route, unknown name), kTimeout.
Result<std::unique_ptr<Stream>> connect_tcp(const NodeUrl& to, Deadline by);

// Two ends of one stream within this process.
Result<std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>>> in_process_pair();

class TcpListener {
 public:
  // Port 0: any; address() tells which.
  static Result<TcpListener> listen(const NodeUrl& at);
  // The next waiting connection; null if none waits.
  Result<std::unique_ptr<Stream>> accept() const;
  int fd() const { return fd_.get(); }
  const NodeUrl& address() const { return address_; }

 private:
  TcpListener(OwnedFd fd, NodeUrl address) : fd_(std::move(fd)), address_(std::move(address)) {}
  OwnedFd fd_;
  NodeUrl address_;
};

// What has come, at most `into`; 0: nothing yet, poll fd() for receive_events(). Error: the stream has ended, and why.
Result<size_t> receive_now(Stream& stream, std::span<std::byte> into);

// Blocking helpers for handshakes, off the fault path.
Result<void> send_all(Stream& stream, std::span<const std::byte> bytes, Deadline by);
Result<void> receive_all(Stream& stream, std::span<std::byte> into, Deadline by);

}  // namespace hecaton
