// receive_handover, with arbitrary bytes and descriptors: what it takes is sound, and no descriptor that came stays
// open when it is refused.
//
// The input: one byte for how many descriptors come, and which of them is a userfaultfd; one for where the bytes are
// cut in two; then the bytes. Where the kernel gives no userfaultfd every descriptor is another one, and all are
// refused.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/units.h"
#include "fuzz.h"
#include "os/fd_passing.h"
#include "pager/handover.h"
#include "wire/handover.h"

using namespace hecaton;

namespace {

constexpr size_t kMostDescriptors = wire::kHandoverMostShards + 2;

int userfaultfd_or_other(bool wanted) {
  static const int uffd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  static const int other = eventfd(0, EFD_CLOEXEC);
  return wanted && uffd >= 0 ? uffd : other;
}

void send_part(int socket, std::span<const uint8_t> bytes, std::span<const int> descriptors) {
  const ssize_t sent = send_with_descriptors(socket, std::as_bytes(bytes), descriptors);
  HEC_CHECK(sent == static_cast<ssize_t>(bytes.size()));
}

// The lowest number that is free: the same again, if nothing was left open.
int next_descriptor() {
  const int fd = dup(userfaultfd_or_other(false));
  HEC_CHECK(fd >= 0);
  close(fd);
  return fd;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const size_t count = data[0] % (kMostDescriptors + 1);
  std::array<int, kMostDescriptors> descriptors;
  for (size_t i = 0; i < count; ++i) descriptors[i] = userfaultfd_or_other(data[0] < 128 || i != data[0] % 16u);
  const std::span<const uint8_t> bytes(data + 2, size - 2);
  const size_t cut = std::min<size_t>(1 + data[1] % 64u, bytes.size());
  const int before = next_descriptor();
  {
    int ends[2];
    HEC_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    OwnedFd ours(ends[0]), theirs(ends[1]);
    send_part(theirs.get(), bytes.first(cut), std::span(descriptors.data(), count));
    if (cut < bytes.size()) send_part(theirs.get(), bytes.subspan(cut, std::min<size_t>(bytes.size() - cut, 4096)), {});
    theirs.reset();
    Result<Handover> got = receive_handover(ours.get(), Deadline::after_ms(1000));
    if (got.ok()) {
      HEC_CHECK(got->uffds.size() == count && count >= 1 && count <= wire::kHandoverMostShards);
      HEC_CHECK(got->bytes != 0 && got->bytes % kPageBytes == 0 && got->address.value % kPageBytes == 0);
      HEC_CHECK(got->address.value + got->bytes > got->address.value && got->offset + got->bytes > got->offset);
      HEC_CHECK(got->stripe_bytes != 0 && got->stripe_bytes % kPageBytes == 0 && got->pid > 0);
    }
  }
  HEC_CHECK(next_descriptor() == before);
  return 0;
}
