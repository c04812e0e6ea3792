// The page bytes of one region on a disk: an unlinked file, so that nothing is left of it however this process ends.
// Read and written with system calls, not mapped: a disk that is full or broken is then an answer, not a signal.
//
// Threads: any number at once, for pages of their own; the region's locks see to that.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>

#include "base/result.h"
#include "base/units.h"
#include "os/memory.h"
#include "os/owned_fd.h"

namespace hecaton::donor {

class PageFile {
 public:
  // How many pages of all files of a backing are in the page cache, at most.
  using CachedPages = std::shared_ptr<std::atomic<uint64_t>>;

  // `file`: empty, without a name. Error: kFull (the file system takes no file that long), kSystem.
  static Result<std::shared_ptr<PageFile>> create(OwnedFd file, uint64_t bytes, CachedPages cached);
  ~PageFile() { *cached_ -= own_cached_; }

  // Takes disk space for the pages, so that writing them does not find the disk full. Error: kFull, kSystem.
  Result<void> reserve(PageRun run);
  // `pieces` are whole pages; they are used up. Error: kFull, kSystem; then any of the pages may be torn.
  Result<void> write(PageNumber first, std::span<iovec> pieces);
  // Error: kSystem, or kCorrupt if the file is shorter than it was.
  Result<void> read(PageRun run, std::byte* into);
  // Gives the disk space of the pages back.
  Result<void> punch(PageRun run);

  // Of its pages in the page cache, those of one extent: starts to write them to the disk; waits for that, and drops
  // them from this machine's memory.
  void start_to_push_out(ExtentNumber extent);
  void push_out(ExtentNumber extent);
  // Counts pages of the extent that came into the page cache, all of them at most. True if there were none before.
  bool add_cached(ExtentNumber extent, uint64_t pages);
  // None any more.
  void reset_cached(ExtentNumber extent);

  int fd() const { return file_.get(); }

 private:
  PageFile(OwnedFd file, Mapping counts, CachedPages cached)
      : file_(std::move(file)), counts_(std::move(counts)), cached_(std::move(cached)) {}
  std::atomic_ref<uint16_t> cached_of(ExtentNumber extent) const {
    return std::atomic_ref<uint16_t>(reinterpret_cast<uint16_t*>(counts_.data())[extent.value]);
  }

  const OwnedFd file_;
  const Mapping counts_;  // cached pages of each extent, 16 bits
  const CachedPages cached_;
  std::atomic<uint64_t> own_cached_{0};  // of them, this file's
};

}  // namespace hecaton::donor
