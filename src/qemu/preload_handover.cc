#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/uffd_abi.h"
#include "qemu/preload.h"
#include "qemu/preload_line.h"
#include "wire/handover.h"

namespace hecaton::preload {
namespace {

constexpr int kAnswerTimeoutMs = 60'000;  // the pager has nothing to do but answer; this is for one that hangs

bool fail(const char* what, int error) {
  Line().text(what).text(": ").error(error);
  return false;
}

// Not user-mode only: KVM and device emulation touch guest memory from within the kernel.
int make_userfaultfd() {
  int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (fd >= 0) return fd;
  int refused = errno;
  int device = static_cast<int>(syscall(SYS_openat, AT_FDCWD, "/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (device < 0) {
    errno = refused;
    return -1;
  }
  fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
  refused = errno;
  close(device);
  errno = refused;
  return fd;
}

// One for each shard.
struct Uffds {
  int fds[wire::kHandoverMostShards];
  unsigned count = 0;

  // Keeps errno: it is said after this.
  void close_all() {
    int error = errno;
    while (count > 0) close(fds[--count]);
    errno = error;
  }
};

bool make_all(Uffds& uffds, unsigned wanted) {
  while (uffds.count < wanted) {
    int fd = make_userfaultfd();
    if (fd < 0) return fail("userfaultfd is refused (run as root, or give access to /dev/userfaultfd)", errno);
    uffds.fds[uffds.count++] = fd;
  }
  return true;
}

bool shake_hands(int uffd) {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = HEC_UFFD_FEATURES;
  if (ioctl(uffd, UFFDIO_API, &api) != 0) {
    return fail("this kernel's userfaultfd cannot page shared memory (Linux 5.19 can)", errno);
  }
  return true;
}

bool register_range(int uffd, uintptr_t address, size_t bytes) {
  uffdio_register range{};
  range.range = {address, bytes};
  range.mode = HEC_UFFD_MODES;
  if (ioctl(uffd, UFFDIO_REGISTER, &range) != 0) return fail("registering guest RAM with userfaultfd", errno);
  return true;
}

bool prepare(const Uffds& uffds, void* address, size_t bytes, size_t stripe) {
  for (unsigned shard = 0; shard < uffds.count; ++shard) {
    if (!shake_hands(uffds.fds[shard])) return false;
  }
  // EINVAL: a kernel without huge pages. A forked child would see what is elsewhere as zeros.
  if (madvise(address, bytes, MADV_NOHUGEPAGE) != 0 && errno != EINVAL) return fail("MADV_NOHUGEPAGE", errno);
  if (madvise(address, bytes, MADV_DONTFORK) != 0) return fail("MADV_DONTFORK", errno);
  const uintptr_t start = reinterpret_cast<uintptr_t>(address);
  if (uffds.count == 1) return register_range(uffds.fds[0], start, bytes);  // one mapping, not one for each stripe
  for (size_t at = 0, n = 0; at < bytes; at += stripe, ++n) {
    const size_t part = bytes - at < stripe ? bytes - at : stripe;
    if (!register_range(uffds.fds[n % uffds.count], start + at, part)) return false;
  }
  return true;
}

bool send_to_pager(const Config& config, const Uffds& uffds, void* address, size_t bytes, off_t offset) {
  wire::HandoverMessage message{wire::kHandoverMagic,
                                wire::kHandoverVersion,
                                static_cast<uint32_t>(getpid()),
                                reinterpret_cast<uintptr_t>(address),
                                bytes,
                                static_cast<uint64_t>(offset),
                                config.stripe,
                                uffds.count,
                                0,
                                {}};
  for (unsigned shard = 0; shard < uffds.count; ++shard) message.descriptors[shard] = uffds.fds[shard];
  iovec part{&message, sizeof message};
  const size_t fds_bytes = uffds.count * sizeof uffds.fds[0];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof uffds.fds)] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = CMSG_SPACE(fds_bytes);
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(fds_bytes);
  memcpy(CMSG_DATA(rights), uffds.fds, fds_bytes);
  ssize_t sent;
  do {
    sent = syscall(SYS_sendmsg, config.socket, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent == sizeof message) return true;
  return fail("the pager cannot be reached", sent < 0 ? errno : EPROTO);
}

// Reads an answer's worth of bytes; false at the end of the socket, after the timeout, or on an error.
bool read_answer(int socket, wire::HandoverAnswer& answer) {
  size_t have = 0;
  while (have < sizeof answer) {
    pollfd waiting{socket, POLLIN, 0};
    int ready = poll(&waiting, 1, kAnswerTimeoutMs);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return fail("the pager does not answer", ETIMEDOUT);
    if (ready < 0) return fail("waiting for the pager", errno);
    ssize_t got = recv(socket, reinterpret_cast<char*>(&answer) + have, sizeof answer - have, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return fail("the pager is gone", got < 0 ? errno : ECONNRESET);
    have += static_cast<size_t>(got);
  }
  return true;
}

bool accepted_by_pager(int socket) {
  wire::HandoverAnswer answer{};
  if (!read_answer(socket, answer)) return false;
  if (answer.magic != wire::kAnswerMagic || answer.version != wire::kHandoverVersion) {
    return fail("the pager's answer is not one: use the libhecaton-qemu.so of this hecaton", EPROTO);
  }
  if (answer.status != wire::kHandoverAccepted) return fail("the pager refused QEMU's RAM; it says why", ECONNREFUSED);
  return true;
}

// Not before: what is given as QEMU may be a script that starts QEMU in the end.
void keep_from_children(const Config& config) {
  fcntl(config.socket, F_SETFD, FD_CLOEXEC);
  for (int fd = config.first_kept; fd < config.first_kept + config.kept; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
  unsetenv("LD_PRELOAD");
  unsetenv("HECATON_PRELOAD");
}

}  // namespace

bool hand_over(const Config& config, void* address, size_t bytes, off_t offset) {
  size_t whole_pages = (bytes + kPage - 1) & ~(kPage - 1);
  Uffds uffds;
  if (!make_all(uffds, config.shards) || !prepare(uffds, address, whole_pages, config.stripe) ||
      !send_to_pager(config, uffds, address, whole_pages, offset) || !accepted_by_pager(config.socket)) {
    uffds.close_all();
    return false;
  }
  // The userfaultfds stay open here for ever: with the last descriptor of one closed, what is elsewhere of its stripes
  // reads as zeros. A guest whose pager has died waits instead. The socket stays open as well: its end tells the pager
  // that QEMU is gone.
  keep_from_children(config);
  // If pager and supervisor both die, a new supervisor takes the descriptors from this process. Where Yama asks for
  // consent (kernel.yama.ptrace_scope 1), this is it; the kernel still wants the same user.
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
  return true;
}

}  // namespace hecaton::preload
