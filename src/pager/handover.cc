#include "pager/handover.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string_view>
#include <utility>

#include "base/stripes.h"
#include "base/units.h"
#include "os/fd_passing.h"
#include "wire/handover.h"

namespace hecaton {
namespace {

constexpr uint64_t kAddressLimit = uint64_t{1} << 56;  // user space ends below it, with five-level page tables too
static_assert(kMostReceivedDescriptors > wire::kHandoverMostShards, "one too many must be seen");
static_assert(wire::kHandoverMostShards == Stripes::kMostShards);

struct Received {
  wire::HandoverMessage message{};
  size_t bytes = 0;
  std::vector<OwnedFd> descriptors;
};

Result<void> wait_readable(int socket, const Deadline& by) {
  for (;;) {
    pollfd waiting{socket, POLLIN, 0};
    int ready = poll(&waiting, 1, by.remaining_ms());
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return system_error("waiting for QEMU's handover");
    if (by.passed()) return Error{ErrorCode::kTimeout, 0, "waiting for QEMU's handover"};
  }
}

// One recvmsg. Error kClosed at the end of the socket.
Result<void> receive_some(int socket, Received& received) {
  const std::span<std::byte> space = std::as_writable_bytes(std::span(&received.message, 1)).subspan(received.bytes);
  const auto [got, truncated] = receive_with_descriptors(socket, space, received.descriptors);
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return {};
    if (errno == ECONNRESET) return Error{ErrorCode::kClosed, errno, "QEMU's handover"};
    return system_error("reading QEMU's handover");
  }
  if (truncated) return Error{ErrorCode::kProtocol, 0, "an oversized handover"};
  if (got == 0 && received.bytes == 0) return Error{ErrorCode::kClosed, 0, "QEMU ended before it handed its RAM over"};
  if (got == 0) return Error{ErrorCode::kProtocol, 0, "a handover that breaks off"};
  received.bytes += static_cast<size_t>(got);
  return {};
}

bool is_userfaultfd(int fd) {
  char path[32];
  char target[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(path, target, sizeof target);
  return length > 0 && std::string_view(target, static_cast<size_t>(length)) == "anon_inode:[userfaultfd]";
}

const char* problem_of(const Received& received) {
  const wire::HandoverMessage& message = received.message;
  if (message.magic != wire::kHandoverMagic) return "a handover with a wrong magic number";
  if (message.version != wire::kHandoverVersion) {
    return "a handover of another version: use the libhecaton-qemu.so of this hecaton";
  }
  if (message.pid == 0 || message.pid > INT32_MAX) return "a handover without a valid process id";
  if (message.bytes == 0 || message.bytes % kPageBytes != 0) return "a handover whose size is not whole pages";
  if (message.address == 0 || message.address % kPageBytes != 0) return "a handover with an unaligned address";
  if (message.address >= kAddressLimit || message.bytes > kAddressLimit - message.address) {
    return "a handover beyond the end of the address space";
  }
  if (message.file_offset % kPageBytes != 0 || message.file_offset > INT64_MAX - message.bytes) {
    return "a handover with a bad file offset";
  }
  if (message.stripe == 0 || message.stripe % kPageBytes != 0) return "a handover whose stripes are not whole pages";
  if (message.shards == 0 || message.shards > wire::kHandoverMostShards || message.reserved != 0) {
    return "a handover with a bad number of shards";
  }
  if (received.descriptors.size() != message.shards) return "a handover without exactly one descriptor for each shard";
  for (const OwnedFd& descriptor : received.descriptors) {
    if (!is_userfaultfd(descriptor.get())) return "a handover whose descriptor is not a userfaultfd";
  }
  return nullptr;
}

}  // namespace

Result<Handover> receive_handover(int socket, Deadline by) {
  Received received;
  while (received.bytes < sizeof received.message) {
    HEC_TRY(wait_readable(socket, by));
    HEC_TRY(receive_some(socket, received));
  }
  if (const char* problem = problem_of(received)) return Error{ErrorCode::kProtocol, 0, problem};
  const wire::HandoverMessage& message = received.message;
  std::vector<Userfaultfd> uffds;
  for (OwnedFd& descriptor : received.descriptors) uffds.emplace_back(std::move(descriptor));
  Handover handover{std::move(uffds),
                    RemoteAddress{message.address},
                    message.bytes,
                    message.file_offset,
                    message.stripe,
                    static_cast<pid_t>(message.pid),
                    {}};
  std::copy(std::begin(message.descriptors), std::end(message.descriptors), handover.descriptors.begin());
  return handover;
}

Result<void> acknowledge(int socket, bool accepted) {
  wire::HandoverAnswer answer{wire::kAnswerMagic, wire::kHandoverVersion,
                              accepted ? wire::kHandoverAccepted : wire::kHandoverRefused};
  ssize_t sent;
  do {
    sent = send(socket, &answer, sizeof answer, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) {
    return Error{ErrorCode::kClosed, errno, "QEMU ended while it handed its RAM over"};
  }
  // 16 bytes go into a socket that carried nothing yet, or not at all.
  if (sent != sizeof answer) return system_error("answering QEMU's handover");
  return {};
}

}  // namespace hecaton
