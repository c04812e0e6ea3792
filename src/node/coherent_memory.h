// A node's part of the guest's memory, and what the coherence core wants done with it (src/coherence/actions.h).
//
// A memfd with two mappings: the guest's, through which its processors and devices go, and ours, which no fault ever
// stops. A page that the core did not let the guest map is not mapped there, whether or not the memfd has bytes for it:
// the access faults, and the engine asks the core.
//
//   memory of a page      absent ── keep, make_zero ──▶ there ── drop ──▶ there, for now ── trim ──▶ absent
//   mapping of a page     none ──map_read──▶ read ──map_write──▶ write;   write ──protect──▶ read;   any ──zap──▶ none
//
// Both mappings are locked: no page of them is ever swapped out, and the kernel refuses MADV_DONTNEED and MADV_REMOVE
// on them. A discard that passed the core by would bring old bytes back, or make zeros at one node of what others still
// have.
//
// Giving a page back costs more than moving it (a hole is punched page by page, past every mapping), and a page that
// wanders comes back: so drop() only notes it. trim() punches the oldest, in runs, when nothing else is to be done.
//
// One thread, the engine's, but for guest() and what never changes. Allocates nothing after create().
// Kernel: 6.4 maps a protected page that is in the memfd. Older ones only copy a protected page into a hole: then the
// bytes are taken aside and the hole is punched first.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "os/memory.h"
#include "os/owned_fd.h"
#include "os/userfaultfd.h"

namespace hecaton::node {

class CoherentMemory {
 public:
  using PageBytes = std::span<const std::byte, kPageBytes>;

  // `protected_map`: the kernel maps protected pages; false forces the way of kernels before 6.4.
  static Result<CoherentMemory> create(uint64_t pages, bool protected_map);
  // Whether this kernel maps protected pages.
  static Result<bool> maps_protected();

  // What the guest's processors and devices use.
  std::byte* guest() const { return guest_.data(); }
  uint64_t pages() const { return pages_; }
  const Userfaultfd& uffd() const { return uffd_; }
  PageNumber page_at(uint64_t guest_address) const {
    return PageNumber((guest_address - reinterpret_cast<uint64_t>(guest_.data())) / kPageBytes);
  }

  // The bytes that a page's memory has; until the next call here. For the engine, and for tests.
  PageBytes bytes(PageNumber page) const { return PageBytes(view_.data() + page.value * kPageBytes, kPageBytes); }

  void keep(PageNumber page, PageBytes bytes);
  void make_zero(PageNumber page);
  // These wake who waits for the page.
  Result<void> map_read(PageNumber page);
  Result<void> map_write(PageNumber page);
  Result<void> protect(PageNumber page);
  Result<void> zap(PageNumber page);
  Result<void> drop(PageNumber page);

  // Punches what drop() noted long ago. False: there is nothing to do.
  Result<bool> trim();
  // Memory in use, with what is yet to be punched. Costs a system call.
  uint64_t bytes_in_use() const;

  // From here on every access to the guest's mapping sleeps, and nothing is mapped again: what is here may be stale.
  void close_to_guest();

 private:
  enum class Mapped : uint8_t { kNone, kRead, kWrite };
  static constexpr size_t kMostDropped = 1024;

  CoherentMemory(uint64_t pages, bool protected_map, OwnedFd memfd, Mapping guest, Mapping view, Mapping aside,
                 Userfaultfd uffd);
  RemoteAddress address(PageNumber page) const {
    return RemoteAddress{reinterpret_cast<uint64_t>(guest_.data()) + page.value * kPageBytes};
  }
  Result<void> map(PageNumber page, bool write_protected);
  Result<void> copy_protected(PageNumber page);
  Result<void> wake(PageNumber page);
  Result<void> punch_oldest(size_t count);

  uint64_t pages_;
  bool protected_map_;
  bool closed_ = false;
  OwnedFd memfd_;
  Mapping guest_, view_, aside_;  // aside: a page's bytes while its memory is a hole
  Userfaultfd uffd_;              // ends before the mapping: see Engine for who may still wait then
  std::vector<Mapped> mapped_;
  std::vector<bool> dropped_;   // not any more once bytes came again
  std::vector<bool> is_noted_;  // in the ring, where it may be in use again: a page that wanders is there once
  std::array<PageNumber, kMostDropped> noted_{};  // a ring, oldest first
  size_t first_noted_ = 0, noted_count_ = 0;
};

}  // namespace hecaton::node
