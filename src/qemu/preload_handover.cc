#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/uffd_abi.h"
#include "qemu/preload.h"
#include "qemu/preload_line.h"
#include "wire/handover.h"

namespace hecaton::preload {
namespace {

constexpr size_t kPage = 4096;
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

bool prepare(int uffd, void* address, size_t bytes) {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = HEC_UFFD_FEATURES;
  if (ioctl(uffd, UFFDIO_API, &api) != 0) {
    return fail("this kernel's userfaultfd cannot page shared memory (Linux 5.19 can)", errno);
  }
  // EINVAL: a kernel without huge pages. A forked child would see what is elsewhere as zeros.
  if (madvise(address, bytes, MADV_NOHUGEPAGE) != 0 && errno != EINVAL) return fail("MADV_NOHUGEPAGE", errno);
  if (madvise(address, bytes, MADV_DONTFORK) != 0) return fail("MADV_DONTFORK", errno);
  uffdio_register range{};
  range.range = {reinterpret_cast<uintptr_t>(address), bytes};
  range.mode = HEC_UFFD_MODES;
  if (ioctl(uffd, UFFDIO_REGISTER, &range) != 0) return fail("registering guest RAM with userfaultfd", errno);
  return true;
}

bool send_to_pager(int socket, int uffd, void* address, size_t bytes, off_t offset) {
  wire::HandoverMessage message{wire::kHandoverMagic,
                                wire::kHandoverVersion,
                                static_cast<uint32_t>(getpid()),
                                reinterpret_cast<uintptr_t>(address),
                                bytes,
                                static_cast<uint64_t>(offset)};
  iovec part{&message, sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof uffd)] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof uffd);
  memcpy(CMSG_DATA(rights), &uffd, sizeof uffd);
  ssize_t sent;
  do {
    sent = syscall(SYS_sendmsg, socket, &header, MSG_NOSIGNAL);
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
void keep_from_children(int socket) {
  fcntl(socket, F_SETFD, FD_CLOEXEC);
  unsetenv("LD_PRELOAD");
  unsetenv("HECATON_PRELOAD");
}

}  // namespace

bool hand_over(const Config& config, void* address, size_t bytes, off_t offset) {
  size_t whole_pages = (bytes + kPage - 1) & ~(kPage - 1);
  int uffd = make_userfaultfd();
  if (uffd < 0) return fail("userfaultfd is refused (run as root, or give access to /dev/userfaultfd)", errno);
  if (!prepare(uffd, address, whole_pages) || !send_to_pager(config.socket, uffd, address, whole_pages, offset) ||
      !accepted_by_pager(config.socket)) {
    close(uffd);
    return false;
  }
  // The userfaultfd stays open here for ever: with its last descriptor closed, what is elsewhere reads as zeros. A
  // guest whose pager has died waits instead. The socket stays open as well: its end tells the pager that QEMU is gone.
  keep_from_children(config.socket);
  return true;
}

}  // namespace hecaton::preload
