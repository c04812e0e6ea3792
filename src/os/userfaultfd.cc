#include "os/userfaultfd.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/units.h"
#include "os/uffd_abi.h"

namespace hecaton {
namespace {

Result<OwnedFd> open_uffd(UffdSource* source) {
  int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (fd >= 0) {
    if (source) *source = UffdSource::kSyscall;
    return OwnedFd(fd);
  }
  Error refused = system_error(
      errno == EPERM ? "no right to use userfaultfd: be root, or get access to /dev/userfaultfd" : "userfaultfd(2)",
      errno == EPERM ? ErrorCode::kPermission : ErrorCode::kUnsupported);
  OwnedFd device(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (!device.valid()) return refused;
  fd = ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return system_error("/dev/userfaultfd");
  if (source) *source = UffdSource::kDevice;
  return OwnedFd(fd);
}

InstallOutcome outcome_of(int error) {
  switch (error) {
    case EEXIST:
      return InstallOutcome::kAlreadyPresent;
    case EAGAIN:
    case ENOMEM:  // this machine has no page to give right now
      return InstallOutcome::kRetry;
    case EFAULT:
      return InstallOutcome::kNoPage;
    case ENOENT:
    case ESRCH:
      return InstallOutcome::kGone;
    default:
      return InstallOutcome::kFailed;
  }
}

FaultEvent decode(const uffd_msg& message) {
  FaultEvent event{FaultEvent::Kind::kOther, false, 0, 0, 0};
  if (message.event == UFFD_EVENT_PAGEFAULT) {
    uint64_t flags = message.arg.pagefault.flags;
    event.kind = flags & UFFD_PAGEFAULT_FLAG_WP      ? FaultEvent::Kind::kWriteProtected
                 : flags & UFFD_PAGEFAULT_FLAG_MINOR ? FaultEvent::Kind::kMinor
                                                     : FaultEvent::Kind::kMissing;
    event.write = (flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0;
    event.address = message.arg.pagefault.address & ~static_cast<uint64_t>(kPageBytes - 1);
    event.thread_id = message.arg.pagefault.feat.ptid;
  } else if (message.event == UFFD_EVENT_REMOVE) {
    event.kind = FaultEvent::Kind::kRemove;
    event.address = message.arg.remove.start;
    event.end = message.arg.remove.end;
  }
  return event;
}

}  // namespace

bool UffdFeatures::missing_shmem() const {
  return bits & UFFD_FEATURE_MISSING_SHMEM;
}
bool UffdFeatures::minor_shmem() const {
  return bits & UFFD_FEATURE_MINOR_SHMEM;
}
bool UffdFeatures::wp_shmem() const {
  return bits & UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
}
bool UffdFeatures::event_remove() const {
  return bits & UFFD_FEATURE_EVENT_REMOVE;
}
// Both came with 6.4; there is no feature bit for the ioctl mode itself.
bool UffdFeatures::continue_wp() const {
  return bits & UFFD_FEATURE_WP_UNPOPULATED;
}
bool UffdFeatures::poison() const {
  return bits & UFFD_FEATURE_POISON;
}

Result<Userfaultfd> Userfaultfd::create(UffdSource* source, Discards discards) {
  OwnedFd fd = HEC_TRY(open_uffd(source));
  const uint64_t left_out = discards == Discards::kSilent ? UFFD_FEATURE_EVENT_REMOVE : 0;
  uffdio_api api{.api = UFFD_API, .features = HEC_UFFD_FEATURES & ~left_out, .ioctls = 0};
  if (ioctl(fd.get(), UFFDIO_API, &api) != 0) {
    return system_error("this kernel's userfaultfd lacks what paging needs (Linux 5.19 has it)",
                        ErrorCode::kUnsupported);
  }
  return Userfaultfd(std::move(fd));
}

Result<UffdFeatures> Userfaultfd::probe(UffdSource* source) {
  OwnedFd fd = HEC_TRY(open_uffd(source));
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  if (ioctl(fd.get(), UFFDIO_API, &api) != 0) return system_error("UFFDIO_API", ErrorCode::kUnsupported);
  return UffdFeatures{api.features};
}

Result<void> Userfaultfd::register_range(RemoteAddress address, uint64_t bytes) const {
  uffdio_register request{.range = {address.value, bytes}, .mode = HEC_UFFD_MODES, .ioctls = 0};
  if (ioctl(fd_.get(), UFFDIO_REGISTER, &request) != 0) return system_error("UFFDIO_REGISTER");
  return {};
}

Result<size_t> Userfaultfd::read_events(std::span<FaultEvent> out) const {
  uffd_msg messages[64];
  size_t wanted = std::min(out.size(), std::size(messages));
  ssize_t got = read(fd_.get(), messages, wanted * sizeof(uffd_msg));
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return size_t{0};
    return system_error("reading page faults");
  }
  size_t count = static_cast<size_t>(got) / sizeof(uffd_msg);
  for (size_t i = 0; i < count; ++i) out[i] = decode(messages[i]);
  return count;
}

InstallOutcome Userfaultfd::copy(RemoteAddress to, const void* source, uint64_t bytes, bool write_protected, bool wake,
                                 uint64_t* done_bytes) const {
  uffdio_copy request{};
  request.dst = to.value;
  request.src = reinterpret_cast<uint64_t>(source);
  request.len = bytes;
  request.mode = (write_protected ? UFFDIO_COPY_MODE_WP : 0) | (wake ? 0 : UFFDIO_COPY_MODE_DONTWAKE);
  int status = ioctl(fd_.get(), UFFDIO_COPY, &request);
  if (done_bytes) *done_bytes = request.copy > 0 ? static_cast<uint64_t>(request.copy) : 0;
  if (status == 0) return InstallOutcome::kInstalled;
  return outcome_of(errno);
}

InstallOutcome Userfaultfd::zero_page(RemoteAddress at) const {
  uffdio_zeropage request{.range = {at.value, kPageBytes}, .mode = 0, .zeropage = 0};
  if (ioctl(fd_.get(), UFFDIO_ZEROPAGE, &request) == 0) return InstallOutcome::kInstalled;
  return outcome_of(errno);
}

InstallOutcome Userfaultfd::continue_page(RemoteAddress at, bool write_protected) const {
  uffdio_continue request{};
  request.range = {at.value, kPageBytes};
  request.mode = write_protected ? UFFDIO_CONTINUE_MODE_WP : 0;
  if (ioctl(fd_.get(), UFFDIO_CONTINUE, &request) == 0) return InstallOutcome::kInstalled;
  return outcome_of(errno);
}

InstallOutcome Userfaultfd::poison(RemoteAddress at) const {
  uffdio_poison request{.range = {at.value, kPageBytes}, .mode = 0, .updated = 0};
  if (ioctl(fd_.get(), UFFDIO_POISON, &request) == 0) return InstallOutcome::kInstalled;
  return outcome_of(errno);
}

InstallOutcome Userfaultfd::protect(RemoteAddress at, uint64_t bytes) const {
  uffdio_writeprotect request{.range = {at.value, bytes}, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
  if (ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &request) == 0) return InstallOutcome::kInstalled;
  return outcome_of(errno);
}

InstallOutcome Userfaultfd::unprotect(RemoteAddress at, uint64_t bytes) const {
  uffdio_writeprotect request{.range = {at.value, bytes}, .mode = 0};
  if (ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &request) == 0) return InstallOutcome::kInstalled;
  return outcome_of(errno);
}

InstallOutcome Userfaultfd::wake(RemoteAddress at, uint64_t bytes) const {
  uffdio_range range{at.value, bytes};
  if (ioctl(fd_.get(), UFFDIO_WAKE, &range) == 0) return InstallOutcome::kInstalled;
  return outcome_of(errno);
}

}  // namespace hecaton
