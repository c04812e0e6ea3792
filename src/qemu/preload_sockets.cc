#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "qemu/preload.h"
#include "qemu/preload_line.h"

namespace hecaton::preload {
namespace {

constinit Next<ssize_t(int, const msghdr*, int)> next_sendmsg("sendmsg");
constinit Next<ssize_t(int, msghdr*, int)> next_recvmsg("recvmsg");

// Calls `visit(fd)` for each descriptor that travels with the message, until it returns true.
template <typename Visit>
bool any_descriptor(const msghdr* message, Visit visit) {
  if (!message || !message->msg_control) return false;
  msghdr* header = const_cast<msghdr*>(message);  // CMSG_NXTHDR takes no const one
  for (cmsghdr* part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int)) {
      int fd;
      memcpy(&fd, reinterpret_cast<const char*>(part) + at, sizeof fd);
      if (visit(fd)) return true;
    }
  }
  return false;
}

}  // namespace
}  // namespace hecaton::preload

using namespace hecaton::preload;

HEC_HOOK ssize_t sendmsg(int socket, const msghdr* message, int flags) {
  const Config* wanted = config();
  if (wanted && any_descriptor(message, [&](int fd) { return is_guest_ram(*wanted, fd); })) {
    Line().text(
        "guest RAM is not shared with another process (vhost-user and the like): it would see memory that is elsewhere "
        "as zeros");
    errno = EPERM;
    return -1;
  }
  return next_sendmsg.get()(socket, message, flags);
}

// Disk images arrive over the monitor as well.
HEC_HOOK ssize_t recvmsg(int socket, msghdr* message, int flags) {
  ssize_t got = next_recvmsg.get()(socket, message, flags);
  if (got >= 0 && config()) {
    any_descriptor(message, [](int fd) {
      clear_direct(fd);
      return false;
    });
  }
  return got;
}
