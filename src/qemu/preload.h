// libhecaton-qemu.so: inside a stock QEMU, it hands the guest's RAM over to the pager, and keeps QEMU from doing what
// paged memory cannot bear. What its files share.
//
//   preload.cc           configuration, what is set up when the library is loaded
//   preload_memory.cc    mmap, mremap, madvise: the RAM is mapped once, and paged from that moment on
//   preload_handover.cc  userfaultfds, and the exchange with the pager
//   preload_files.cc     open, fcntl: no O_DIRECT, no device that pins guest memory
//   preload_sockets.cc   sendmsg, recvmsg: the RAM is not shared with another process
//   preload_line.h       messages, without malloc
//
// Configured by HECATON_PRELOAD="socket=FD inode=DEV:INO shards=N stripe=BYTES keep=FD:N"; without it every hook passes
// through. It is loaded into programs that we do not know: C ABI, no C++ runtime, no exceptions, no malloc in the
// hooks. Hooks may be called from any thread, and by other libraries' constructors before ours. They call on through
// dlsym(RTLD_NEXT), which neither allocates nor comes back here when it succeeds.
#pragma once

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <atomic>

#define HEC_HOOK extern "C" __attribute__((visibility("default")))

namespace hecaton::preload {

inline constexpr size_t kPage = 4096;

struct Config {
  int socket = -1;   // to the supervisor; inherited
  dev_t device = 0;  // of the memory file that is the guest's RAM
  ino_t inode = 0;
  unsigned shards = 1;           // userfaultfds, at most wire::kHandoverMostShards
  size_t stripe = 0;             // bytes of a stripe; whole pages
  int first_kept = 0, kept = 0;  // inherited descriptors that QEMU is to keep for us, and nobody after it
};

// The configuration; nullptr: there is none, pass through.
const Config* config();

// Whether `fd` is the guest's RAM. Keeps errno.
bool is_guest_ram(const Config& wanted, int fd);

// Makes userfaultfds over the fresh mapping and gives them to the pager. False: said why, nothing is left over.
bool hand_over(const Config& config, void* address, size_t bytes, off_t offset);

// Takes O_DIRECT from an open file that came from elsewhere.
void clear_direct(int fd);
void clear_direct_of_inherited_files();

[[noreturn]] void die(const char* problem, const char* detail);

// The function of this name in the libraries after ours.
template <typename Function>
class Next {
 public:
  constexpr explicit Next(const char* name) : name_(name) {}

  Function* get() {
    // Relaxed: every thread finds the same address, and nothing else hangs on it.
    Function* found = found_.load(std::memory_order_relaxed);
    if (!found) {
      found = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name_));
      if (!found) die("the C library has no ", name_);
      found_.store(found, std::memory_order_relaxed);
    }
    return found;
  }

 private:
  const char* name_;
  std::atomic<Function*> found_{nullptr};
};

}  // namespace hecaton::preload
