// Descriptors that travel over a unix socket beside bytes. Source: unix(7), SCM_RIGHTS.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <vector>

#include "os/owned_fd.h"

namespace hecaton {

// With one message. The kernel takes no more than the first.
inline constexpr size_t kMostSentDescriptors = 253, kMostReceivedDescriptors = 32;

// sendmsg: the bytes taken, or -1 and errno. The descriptors go with the first of them.
ssize_t send_with_descriptors(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors);

struct ReceivedBytes {
  ssize_t count;   // as of recvmsg, with errno: 0 at the end, -1 if there is nothing now
  bool truncated;  // more descriptors came than have room: those are closed
};
// recvmsg, without waiting. Appends the descriptors that came, which are ours from then on, closed on exec.
ReceivedBytes receive_with_descriptors(int socket, std::span<std::byte> into, std::vector<OwnedFd>& descriptors);

}  // namespace hecaton
