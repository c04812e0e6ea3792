// The supervisor's side of the handover: QEMU's userfaultfds arrive, with what they cover. See wire/handover.h.
//
// Whoever is at the other end may send anything: every field is checked, and nothing that comes in is trusted further
// than its checks go. One thread at a time per socket.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/stripes.h"
#include "os/userfaultfd.h"

namespace hecaton {

struct Handover {
  // Of the process `pid`, not empty; the stripes of [address, address + bytes) are registered with them in turn.
  std::vector<Userfaultfd> uffds;
  RemoteAddress address;  // page-aligned
  uint64_t bytes;         // a multiple of the page size, not 0
  uint64_t offset;        // in the memory file; page-aligned
  uint64_t stripe_bytes;  // a multiple of the page size, not 0
  pid_t pid;
  std::array<int32_t, Stripes::kMostShards> descriptors;  // the userfaultfds' numbers there
};

// Waits for the message. kClosed: the other end went away before it sent anything; kTimeout: nothing whole came by the
// deadline; kProtocol: what came is not a handover. In each of these cases received descriptors are closed again.
Result<Handover> receive_handover(int socket, Deadline by);

// Lets QEMU go on (accepted), or makes its mapping of the RAM fail.
Result<void> acknowledge(int socket, bool accepted);

}  // namespace hecaton
