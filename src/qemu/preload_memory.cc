#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>

#include "qemu/preload.h"
#include "qemu/preload_line.h"

namespace hecaton::preload {
namespace {

constinit Next<void*(void*, size_t, int, int, int, off_t)> next_mmap("mmap64");
constinit Next<void*(void*, size_t, size_t, int, ...)> next_mremap("mremap");
constinit Next<int(void*, size_t, int)> next_madvise("madvise");
constinit Next<int(void*, size_t, int)> next_posix_madvise("posix_madvise");

// The RAM is mapped once. Where, is known from the end of the handover on; the end is written before the start.
constinit std::atomic<bool> ram_claimed{false};
constinit std::atomic<uintptr_t> ram_start{0};
constinit std::atomic<uintptr_t> ram_end{0};

bool overlaps_ram(const void* address, size_t bytes) {
  uintptr_t start = ram_start.load(std::memory_order_acquire);
  uintptr_t first = reinterpret_cast<uintptr_t>(address);
  return start != 0 && first < ram_end.load(std::memory_order_relaxed) && bytes > 0 && first + bytes > start;
}

void* refuse(const char* reason) {
  Line().text("guest RAM is not mapped: ").text(reason);
  errno = EIO;
  return MAP_FAILED;
}

void* map_ram(const Config& wanted, void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
  int error = errno;
  int type = flags & MAP_TYPE;
  if (type != MAP_SHARED && type != MAP_SHARED_VALIDATE) {
    return refuse("a private mapping of it would see memory that is elsewhere as zeros");
  }
  if (ram_claimed.exchange(true)) {
    return refuse("it is mapped already, and a second mapping would see memory that is elsewhere as zeros");
  }
  // Populating before there is a pager would take in all of it, as zeros.
  void* mapped = next_mmap.get()(address, bytes, protection, flags & ~(MAP_POPULATE | MAP_LOCKED), fd, offset);
  if (mapped == MAP_FAILED) {
    ram_claimed.store(false);  // nothing was mapped: the caller may try again, at another address say
    return mapped;
  }
  if (!hand_over(wanted, mapped, bytes, offset)) {
    munmap(mapped, bytes);
    return refuse("without a pager the guest would lose memory, so it does not start");
  }
  uintptr_t start = reinterpret_cast<uintptr_t>(mapped);
  ram_end.store(start + bytes, std::memory_order_relaxed);
  ram_start.store(start, std::memory_order_release);
  errno = error;
  return mapped;
}

void* map(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
  const Config* wanted = (flags & MAP_ANONYMOUS) || bytes == 0 ? nullptr : config();
  if (wanted && is_guest_ram(*wanted, fd)) return map_ram(*wanted, address, bytes, protection, flags, fd, offset);
  return next_mmap.get()(address, bytes, protection, flags, fd, offset);
}

// Huge pages would bring 512 pages for one; merged pages are replaced behind the pager's back. Both are hints only.
bool is_unwanted_hint(const void* address, size_t bytes, int advice) {
  return (advice == MADV_HUGEPAGE || advice == MADV_MERGEABLE) && overlaps_ram(address, bytes);
}

}  // namespace
}  // namespace hecaton::preload

using namespace hecaton::preload;

HEC_HOOK void* mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) noexcept {
  return map(address, bytes, protection, flags, fd, offset);
}

HEC_HOOK void* mmap64(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) noexcept {
  return map(address, bytes, protection, flags, fd, offset);
}

// A moved mapping leaves the userfaultfd behind: what is elsewhere would read as zeros.
HEC_HOOK void* mremap(void* address, size_t bytes, size_t new_bytes, int flags, ...) noexcept {
  va_list arguments;
  va_start(arguments, flags);
  void* target = flags & MREMAP_FIXED ? va_arg(arguments, void*) : nullptr;
  va_end(arguments);
  if (overlaps_ram(address, bytes) || (target && overlaps_ram(target, new_bytes))) {
    Line().text("guest RAM cannot be moved or resized while it is paged");
    errno = EPERM;
    return MAP_FAILED;
  }
  return next_mremap.get()(address, bytes, new_bytes, flags, target);
}

HEC_HOOK int madvise(void* address, size_t bytes, int advice) noexcept {
  if (is_unwanted_hint(address, bytes, advice)) return 0;
  return next_madvise.get()(address, bytes, advice);
}

HEC_HOOK int posix_madvise(void* address, size_t bytes, int advice) noexcept {
  if (is_unwanted_hint(address, bytes, advice)) return 0;
  return next_posix_madvise.get()(address, bytes, advice);
}
