// Memory objects: mappings, memfds, and keeping a process's own memory resident.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "base/result.h"
#include "os/owned_fd.h"

namespace hecaton {

// A mapping with one owner, unmapped at its end.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  // A shared, writable mapping of the whole of `fd`; kept out of core dumps, without huge pages (one filled page would
  // make 512 present).
  static Result<Mapping> shared(int fd, size_t bytes);
  // Private zeros, taken from the machine only as they are touched; kept out of core dumps.
  static Result<Mapping> sparse(size_t bytes);

  std::byte* data() const { return address_; }
  size_t size() const { return bytes_; }
  bool valid() const { return address_ != nullptr; }

 private:
  Mapping(std::byte* address, size_t bytes) : address_(address), bytes_(bytes) {}
  std::byte* address_ = nullptr;
  size_t bytes_ = 0;
};

// An anonymous file of `bytes`, close-on-exec, with no name outside /proc.
Result<OwnedFd> create_memfd(const char* debug_name, size_t bytes);

// Frees the pages of [offset, offset + bytes) of a memfd; they read as zeros afterwards. Page-aligned.
Result<void> punch_hole(int memfd, uint64_t offset, uint64_t bytes);

// Whether the page at `offset` of a memfd is a hole (holds no bytes at all).
Result<bool> is_hole(int memfd, uint64_t offset);

// Bytes that this machine could give to programs now; 0 if it does not tell.
uint64_t available_memory();

// The first bytes at or after `offset` that a memfd holds: [first, end), whole pages; nothing if it holds none there.
struct DataRange {
  uint64_t first, end;
};
Result<std::optional<DataRange>> next_data(int memfd, uint64_t offset);

// Keeps what is in the mapping, and what comes into it later, in memory. Nobody takes a page out by mistake either:
// MADV_DONTNEED and MADV_REMOVE are refused there, and only unmap_locked() unmaps. Whatever was filled in before, by a
// program that locks all that it maps, stays mapped.
Result<void> lock_as_filled(const Mapping& mapping);
// Unmaps these bytes of a locked mapping of a file; they stay in the file. Page-aligned.
Result<void> unmap_locked(std::byte* address, size_t bytes);

// Keeps this process's code, stacks and buffers resident as they are touched, so that serving a page fault never needs
// one. Later mappings are included; take out big ones with munlock.
Result<void> lock_process_memory();

}  // namespace hecaton
