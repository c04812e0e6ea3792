#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/preload.h"
#include "qemu/preload_line.h"

namespace hecaton::preload {
namespace {

constinit Next<int(const char*, int, ...)> next_open("open");
constinit Next<int(const char*, int, ...)> next_open64("open64");
constinit Next<int(int, const char*, int, ...)> next_openat("openat");
constinit Next<int(int, const char*, int, ...)> next_openat64("openat64");
constinit Next<int(const char*, int)> next_open_2("__open_2");
constinit Next<int(const char*, int)> next_open64_2("__open64_2");
constinit Next<int(int, const char*, int)> next_openat_2("__openat_2");
constinit Next<int(int, const char*, int)> next_openat64_2("__openat64_2");
constinit Next<int(int, int, ...)> next_fcntl("fcntl");
constinit Next<int(int, int, ...)> next_fcntl64("fcntl64");

struct RefusedDevice {
  const char* prefix;
  bool numbered;  // a digit must follow: /dev/sg0, not /dev/sgx_enclave
  const char* reason;
};
constexpr RefusedDevice kRefusedDevices[] = {
    {"/dev/vfio/", false, "a passed-through device writes to guest memory behind the page table"},
    {"/dev/iommu", false, "a passed-through device writes to guest memory behind the page table"},
    {"/dev/vhost-vdpa", false, "a vDPA device writes to guest memory behind the page table"},
    {"/dev/vhost-scsi", false, "vhost-scsi writes to guest memory behind the page table"},
    {"/dev/udmabuf", false, "it pins guest memory"},
    {"/dev/infiniband/", false, "RDMA writes to guest memory behind the page table"},
    {"/dev/bsg/", false, "SCSI passthrough writes to guest memory behind the page table"},
    {"/dev/sg", true, "SCSI passthrough writes to guest memory behind the page table"},
    {"/dev/sev", false, "encrypted guest memory is pinned"},
};

bool matches(const RefusedDevice& device, const char* path) {
  size_t length = strlen(device.prefix);
  return strncmp(path, device.prefix, length) == 0 &&
         (!device.numbered || (path[length] >= '0' && path[length] <= '9'));
}

// Says so once: a guest may have many disks, and each may be opened several times.
void mention_direct(const char* path) {
  static constinit std::atomic<bool> mentioned{false};
  if (mentioned.exchange(true)) return;
  Line().name(path).text(
      " is opened without O_DIRECT (cache=none behaves as cache=writeback): a disk that writes straight into "
      "guest memory would write into pages that have moved away");
}

// Whether the file may be opened, with `flags` as paged memory needs them.
bool admit(const char* path, int& flags) {
  if (!config()) return true;
  for (const RefusedDevice& device : kRefusedDevices) {
    if (!path || !matches(device, path)) continue;
    Line().name(path).text(" is not opened: ").text(device.reason).text(", so what it writes to paged memory is lost");
    errno = EPERM;
    return false;
  }
  if (flags & O_DIRECT) {
    mention_direct(path ? path : "a file");
    flags &= ~O_DIRECT;
  }
  return true;
}

// Only there if the flags say so; reading it otherwise is undefined.
mode_t mode_of(int flags, va_list arguments) {
  bool given = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
  return given ? va_arg(arguments, mode_t) : 0;
}

template <typename Function>
int set_flags_or_pass(Next<Function>& next, int fd, int command, void* argument) {
  if (command == F_SETFL && config()) {
    int flags = static_cast<int>(reinterpret_cast<intptr_t>(argument));
    if (flags & O_DIRECT) mention_direct("a file");
    return next.get()(fd, command, flags & ~O_DIRECT);
  }
  return next.get()(fd, command, argument);
}

}  // namespace

void clear_direct(int fd) {
  int error = errno;
  int flags = next_fcntl.get()(fd, F_GETFL);
  if (flags >= 0 && (flags & O_DIRECT)) {
    // A pipe's O_DIRECT is its packet mode, and pins nothing.
    bool seekable_or_device = lseek(fd, 0, SEEK_CUR) >= 0 || errno != ESPIPE;
    if (seekable_or_device) {
      mention_direct("a file that was handed in");
      next_fcntl.get()(fd, F_SETFL, flags & ~O_DIRECT);
    }
  }
  errno = error;
}

void clear_direct_of_inherited_files() {
  DIR* directory = opendir("/proc/self/fd");
  if (!directory) die("/proc is needed to check the files that were inherited: ", strerrordesc_np(errno));
  while (dirent* entry = readdir(directory)) {
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') clear_direct(atoi(entry->d_name));
  }
  closedir(directory);
}

}  // namespace hecaton::preload

using namespace hecaton::preload;

#define HEC_OPEN_HOOK(name)                                                \
  HEC_HOOK int name(const char* path, int flags, ...) {                    \
    va_list arguments;                                                     \
    va_start(arguments, flags);                                            \
    mode_t mode = mode_of(flags, arguments);                               \
    va_end(arguments);                                                     \
    return admit(path, flags) ? next_##name.get()(path, flags, mode) : -1; \
  }
#define HEC_OPENAT_HOOK(name)                                                         \
  HEC_HOOK int name(int directory, const char* path, int flags, ...) {                \
    va_list arguments;                                                                \
    va_start(arguments, flags);                                                       \
    mode_t mode = mode_of(flags, arguments);                                          \
    va_end(arguments);                                                                \
    return admit(path, flags) ? next_##name.get()(directory, path, flags, mode) : -1; \
  }
HEC_OPEN_HOOK(open)
HEC_OPEN_HOOK(open64)
HEC_OPENAT_HOOK(openat)
HEC_OPENAT_HOOK(openat64)

// What a fortified open() without a mode becomes.
HEC_HOOK int __open_2(const char* path, int flags) {
  return admit(path, flags) ? next_open_2.get()(path, flags) : -1;
}
HEC_HOOK int __open64_2(const char* path, int flags) {
  return admit(path, flags) ? next_open64_2.get()(path, flags) : -1;
}
HEC_HOOK int __openat_2(int directory, const char* path, int flags) {
  return admit(path, flags) ? next_openat_2.get()(directory, path, flags) : -1;
}
HEC_HOOK int __openat64_2(int directory, const char* path, int flags) {
  return admit(path, flags) ? next_openat64_2.get()(directory, path, flags) : -1;
}

// The third argument is an int, a pointer or nothing: all of them pass through as one machine word, as in the C
// library.
#define HEC_FCNTL_HOOK(name)                                      \
  HEC_HOOK int name(int fd, int command, ...) {                   \
    va_list arguments;                                            \
    va_start(arguments, command);                                 \
    void* argument = va_arg(arguments, void*);                    \
    va_end(arguments);                                            \
    return set_flags_or_pass(next_##name, fd, command, argument); \
  }
HEC_FCNTL_HOOK(fcntl)
HEC_FCNTL_HOOK(fcntl64)
