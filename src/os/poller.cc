#include "os/poller.h"

#include <fcntl.h>
#include <sys/eventfd.h>

namespace hecaton {

Result<Poller> Poller::create() {
  OwnedFd fd(epoll_create1(EPOLL_CLOEXEC));
  if (!fd.valid()) return system_error("epoll_create1");
  return Poller(std::move(fd));
}

Result<Poller> Poller::share() const {
  OwnedFd fd = duplicate(fd_.get());
  if (!fd.valid()) return system_error("sharing an epoll descriptor");
  return Poller(std::move(fd));
}

Result<void> Poller::add(int fd, uint32_t events, uint64_t token) {
  epoll_event event{.events = events, .data = {.u64 = token}};
  if (epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return system_error("epoll_ctl");
  return {};
}

Result<void> Poller::modify(int fd, uint32_t events, uint64_t token) {
  epoll_event event{.events = events, .data = {.u64 = token}};
  if (epoll_ctl(fd_.get(), EPOLL_CTL_MOD, fd, &event) != 0) return system_error("epoll_ctl");
  return {};
}

void Poller::remove(int fd) {
  epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

size_t Poller::wait(std::span<epoll_event> out, int timeout_ms) {
  return wait_ns(out, timeout_ms < 0 ? -1 : int64_t{timeout_ms} * 1'000'000);
}

size_t Poller::wait_ns(std::span<epoll_event> out, int64_t timeout_ns) {
  const timespec timeout{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
  const int most = static_cast<int>(out.size());
  int count = epoll_pwait2(fd_.get(), out.data(), most, timeout_ns < 0 ? nullptr : &timeout, nullptr);
  // A process that was stopped and continued comes back with EINTR: what arrived meanwhile must be seen, or its sender
  // would seem to have been silent.
  if (count < 0) count = epoll_wait(fd_.get(), out.data(), most, 0);
  return count > 0 ? static_cast<size_t>(count) : 0;
}

Result<WakeFlag> WakeFlag::create() {
  OwnedFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return system_error("eventfd");
  return WakeFlag(std::move(fd));
}

void WakeFlag::raise() const {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = write(fd_.get(), &one, sizeof one);
}

void WakeFlag::clear() const {
  uint64_t count;
  [[maybe_unused]] ssize_t got = read(fd_.get(), &count, sizeof count);
}

}  // namespace hecaton
