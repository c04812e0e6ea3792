// A file descriptor with one owner. Closed once, then forgotten.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace hecaton {

class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  ~OwnedFd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    int old = std::exchange(fd_, fd);
    if (old >= 0) close(old);
  }

 private:
  int fd_ = -1;
};

// Not valid if there is no room for one more.
inline OwnedFd duplicate(int fd) {
  return OwnedFd(fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

}  // namespace hecaton
