// A userfaultfd and the ioctls on it, with outcomes as values.
//
// Addresses are addresses of the process whose memory the descriptor serves. Every ioctl may be called from any thread.
// While an event (a discard) waits to be read, the kernel answers EAGAIN: that is kRetry, after the reader has read it.
// Source: Documentation/admin-guide/mm/userfaultfd.rst, userfaultfd(2), ioctl_userfaultfd(2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "os/owned_fd.h"

namespace hecaton {

// An address in the guest process's address space; not ours unless both are the same process.
struct RemoteAddress {
  uint64_t value = 0;
  RemoteAddress operator+(uint64_t bytes) const { return RemoteAddress{value + bytes}; }
};

// What this kernel can do, as asked of it. See docs/kernel.md for what each is needed for.
struct UffdFeatures {
  uint64_t bits = 0;           // UFFD_FEATURE_* of the kernel
  bool missing_shmem() const;  // 4.11
  bool minor_shmem() const;    // 5.14
  bool wp_shmem() const;       // 5.19: the floor
  bool event_remove() const;   // 4.11
  bool continue_wp() const;    // 6.4
  bool poison() const;         // 6.6
  bool enough_for_memory_mode() const { return missing_shmem() && minor_shmem() && wp_shmem() && event_remove(); }
};

// Whether a process that discards pages of a registered range (MADV_DONTNEED) waits until somebody has read an event of
// it. Not where the thread that reads the events discards pages itself.
enum class Discards : uint8_t { kReported, kSilent };

// How a userfaultfd was, or was not, to be had.
enum class UffdSource : uint8_t { kSyscall, kDevice };

struct FaultEvent {
  enum class Kind : uint8_t {
    kMissing,         // no page behind the address
    kMinor,           // a page in the file, not mapped
    kWriteProtected,  // a write to a protected page
    kRemove,          // [address, end) is being discarded by the process
    kOther,           // an event that was not asked for
  };
  Kind kind;
  bool write;          // of the first two: the access was a write
  uint64_t address;    // page-aligned
  uint64_t end;        // of kRemove
  uint32_t thread_id;  // 0 if unknown
};

enum class InstallOutcome : uint8_t {
  kInstalled,       // the page is there, and its waiters are awake
  kAlreadyPresent,  // lost a benign race: something is there already; nobody was woken
  kRetry,           // an event must be read first, or the machine is out of memory for now
  kGone,            // the process, or the mapping, is gone
  kFailed,          // the kernel refuses: the page cannot be had (a memory error, for one)
  kNoPage,          // continue_pages only: there is no page in the file to map
};

class Userfaultfd {
 public:
  Userfaultfd() = default;
  // Takes over a descriptor made elsewhere, with API handshake and registration done.
  explicit Userfaultfd(OwnedFd fd) : fd_(std::move(fd)) {}

  // A new one for this process, handshake done with the features memory mode needs; says by which way in `source`.
  static Result<Userfaultfd> create(UffdSource* source = nullptr, Discards discards = Discards::kReported);
  // Asks the kernel for its features. Error: no userfaultfd to be had, and why.
  static Result<UffdFeatures> probe(UffdSource* source = nullptr);

  // Missing, minor and write-protect faults of [address, address + bytes) come here. Page-aligned.
  Result<void> register_range(RemoteAddress address, uint64_t bytes) const;

  // Up to out.size() events; 0 if none waits. At most 64 are read at a time.
  Result<size_t> read_events(std::span<FaultEvent> out) const;

  // Puts `bytes` of `source` in place and wakes. `write_protected`: the first write raises an event.
  // `wake` false leaves waiters asleep until wake() is called. `done_bytes`, if given, tells how far it came.
  InstallOutcome copy(RemoteAddress to, const void* source, uint64_t bytes, bool write_protected, bool wake = true,
                      uint64_t* done_bytes = nullptr) const;
  // Puts a page of zeros, writable, in place and wakes.
  InstallOutcome zero_page(RemoteAddress at) const;
  // Maps the page that is in the file already, and wakes. `write_protected` needs continue_wp().
  InstallOutcome continue_page(RemoteAddress at, bool write_protected) const;
  // After protect(), no write to the range goes unseen until unprotect(), which also wakes.
  InstallOutcome protect(RemoteAddress at, uint64_t bytes) const;
  InstallOutcome unprotect(RemoteAddress at, uint64_t bytes) const;
  // Lets every thread that waits in the range try its access again.
  InstallOutcome wake(RemoteAddress at, uint64_t bytes) const;

  // Accesses to the page, which must be a hole, get a memory error (SIGBUS) from now on; wakes. Needs poison().
  InstallOutcome poison(RemoteAddress at) const;

  int fd() const { return fd_.get(); }

 private:
  OwnedFd fd_;
};

}  // namespace hecaton
