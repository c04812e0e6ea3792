// epoll, and an eventfd to wake a thread that waits in it.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <span>

#include "base/result.h"
#include "os/owned_fd.h"

namespace hecaton {

class Poller {
 public:
  static Result<Poller> create();
  // The same set of descriptors: what is added here is waited for there.
  Result<Poller> share() const;

  // Level-triggered; `events` are EPOLL* bits; `token` comes back with the event.
  Result<void> add(int fd, uint32_t events, uint64_t token);
  Result<void> modify(int fd, uint32_t events, uint64_t token);
  void remove(int fd);
  // Waits up to timeout_ms (-1: for ever). Number of events; 0 if there are none by then, or at a signal.
  size_t wait(std::span<epoll_event> out, int timeout_ms);
  // Ready while any of its descriptors is.
  int fd() const { return fd_.get(); }
  size_t wait_ns(std::span<epoll_event> out, int64_t timeout_ns);

 private:
  explicit Poller(OwnedFd fd) : fd_(std::move(fd)) {}
  OwnedFd fd_;
};

// Any thread raises it; the thread that waits on fd() clears it.
class WakeFlag {
 public:
  static Result<WakeFlag> create();

  void raise() const;
  void clear() const;
  int fd() const { return fd_.get(); }

 private:
  explicit WakeFlag(OwnedFd fd) : fd_(std::move(fd)) {}
  OwnedFd fd_;
};

}  // namespace hecaton
