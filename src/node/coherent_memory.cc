#include "node/coherent_memory.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/clock.h"

namespace hecaton::node {
namespace {

// How long the kernel may have no page to give before that is an error: the guest waits meanwhile.
constexpr int64_t kMemoryShortNs = 10'000'000'000;
constexpr size_t kTrimAtOnce = 64;

// An ioctl's outcome, tried again while the machine is short of memory.
template <typename Try>
InstallOutcome try_until_decided(Try attempt) {
  InstallOutcome outcome = attempt();
  if (outcome != InstallOutcome::kRetry) return outcome;
  const int64_t until_ns = monotonic_ns() + kMemoryShortNs;
  while (outcome == InstallOutcome::kRetry && monotonic_ns() < until_ns) {
    sched_yield();
    outcome = attempt();
  }
  return outcome;
}

Error refused(const char* what) {
  return Error{ErrorCode::kSystem, 0, what};
}

}  // namespace

Result<bool> CoherentMemory::maps_protected() {
  return HEC_TRY(Userfaultfd::probe()).continue_wp();
}

Result<CoherentMemory> CoherentMemory::create(uint64_t pages, bool protected_map) {
  HEC_CHECK(pages > 0);
  const size_t bytes = pages * kPageBytes;
  OwnedFd memfd = HEC_TRY(create_memfd("hecaton-node", bytes));
  Mapping guest = HEC_TRY(Mapping::shared(memfd.get(), bytes));
  Mapping view = HEC_TRY(Mapping::shared(memfd.get(), bytes));
  Mapping aside = HEC_TRY(Mapping::sparse(kPageBytes));
  // In a program that locks all of its memory, the kernel has just filled both mappings: begin with none of it.
  munlock(guest.data(), bytes);
  HEC_TRY(punch_hole(memfd.get(), 0, bytes));
  // The engine must not wait for a disk, and no discard of the VMM's may pass it by.
  HEC_TRY(lock_as_filled(guest));
  HEC_TRY(lock_as_filled(view));
  HEC_TRY(lock_as_filled(aside));
  std::memset(aside.data(), 0, aside.size());  // there from now on
  // A child would see zeros where a page is not here.
  if (madvise(guest.data(), bytes, MADV_DONTFORK) != 0) return system_error("keeping guest memory from children");
  Userfaultfd uffd = HEC_TRY(Userfaultfd::create(nullptr, Discards::kSilent));
  HEC_TRY(uffd.register_range(RemoteAddress{reinterpret_cast<uint64_t>(guest.data())}, bytes));
  return CoherentMemory(pages, protected_map, std::move(memfd), std::move(guest), std::move(view), std::move(aside),
                        std::move(uffd));
}

CoherentMemory::CoherentMemory(uint64_t pages, bool protected_map, OwnedFd memfd, Mapping guest, Mapping view,
                               Mapping aside, Userfaultfd uffd)
    : pages_(pages),
      protected_map_(protected_map),
      memfd_(std::move(memfd)),
      guest_(std::move(guest)),
      view_(std::move(view)),
      aside_(std::move(aside)),
      uffd_(std::move(uffd)),
      mapped_(pages, Mapped::kNone),
      dropped_(pages, false),
      is_noted_(pages, false) {}

void CoherentMemory::keep(PageNumber page, PageBytes bytes) {
  dropped_[page.value] = false;
  std::memcpy(view_.data() + page.value * kPageBytes, bytes.data(), kPageBytes);
}

void CoherentMemory::make_zero(PageNumber page) {
  dropped_[page.value] = false;
  std::memset(view_.data() + page.value * kPageBytes, 0, kPageBytes);
}

Result<void> CoherentMemory::map_read(PageNumber page) {
  if (closed_) return {};
  HEC_TRY(protected_map_ ? map(page, true) : copy_protected(page));
  // Mapped for writing it stays so: who may write may read.
  if (mapped_[page.value] == Mapped::kNone) mapped_[page.value] = Mapped::kRead;
  return {};
}

Result<void> CoherentMemory::map_write(PageNumber page) {
  if (closed_) return {};
  if (mapped_[page.value] == Mapped::kRead) {
    // If the kernel has taken the entry back meanwhile, the writer faults once more, and comes here again.
    if (try_until_decided([&] { return uffd_.unprotect(address(page), kPageBytes); }) != InstallOutcome::kInstalled) {
      return refused("a page could not be made writable");
    }
  } else {
    HEC_TRY(map(page, false));
  }
  mapped_[page.value] = Mapped::kWrite;
  return {};
}

Result<void> CoherentMemory::map(PageNumber page, bool write_protected) {
  // A page that was written through our mapping is in the memfd; so is one that was mapped before.
  switch (try_until_decided([&] { return uffd_.continue_page(address(page), write_protected); })) {
    case InstallOutcome::kInstalled:
      return {};
    case InstallOutcome::kAlreadyPresent:
      return wake(page);
    default:
      return refused("a page could not be mapped");
  }
}

Result<void> CoherentMemory::copy_protected(PageNumber page) {
  if (mapped_[page.value] != Mapped::kNone) {
    // The entry may be there, or have been taken back by the kernel. Writable is what no protected copy can be needed
    // for. A protected one is zapped and made again below: only this thread changes it, and its readers wait.
    if (mapped_[page.value] == Mapped::kWrite) return map(page, false);
    HEC_TRY(unmap_locked(guest_.data() + page.value * kPageBytes, kPageBytes));
  }
  std::memcpy(aside_.data(), bytes(page).data(), kPageBytes);
  HEC_TRY(punch_hole(memfd_.get(), page.value * kPageBytes, kPageBytes));
  const InstallOutcome outcome =
      try_until_decided([&] { return uffd_.copy(address(page), aside_.data(), kPageBytes, true); });
  if (outcome == InstallOutcome::kInstalled) return {};
  std::memcpy(view_.data() + page.value * kPageBytes, aside_.data(), kPageBytes);
  return refused("a protected page could not be put in place");
}

Result<void> CoherentMemory::wake(PageNumber page) {
  if (try_until_decided([&] { return uffd_.wake(address(page), kPageBytes); }) == InstallOutcome::kInstalled) return {};
  return refused("who waits for a page could not be woken");
}

Result<void> CoherentMemory::protect(PageNumber page) {
  if (mapped_[page.value] != Mapped::kWrite) return {};
  if (try_until_decided([&] { return uffd_.protect(address(page), kPageBytes); }) != InstallOutcome::kInstalled) {
    return refused("a page could not be protected");
  }
  mapped_[page.value] = Mapped::kRead;
  return {};
}

Result<void> CoherentMemory::zap(PageNumber page) {
  if (mapped_[page.value] == Mapped::kNone) return {};
  HEC_TRY(unmap_locked(guest_.data() + page.value * kPageBytes, kPageBytes));
  mapped_[page.value] = Mapped::kNone;
  return {};
}

Result<void> CoherentMemory::drop(PageNumber page) {
  dropped_[page.value] = true;
  if (is_noted_[page.value]) return {};
  if (noted_count_ == kMostDropped) HEC_TRY(punch_oldest(kTrimAtOnce));
  is_noted_[page.value] = true;
  noted_[(first_noted_ + noted_count_++) % kMostDropped] = page;
  return {};
}

Result<bool> CoherentMemory::trim() {
  if (noted_count_ == 0) return false;
  HEC_TRY(punch_oldest(std::min(noted_count_, kTrimAtOnce)));
  return noted_count_ > 0;
}

Result<void> CoherentMemory::punch_oldest(size_t count) {
  // Pages that were dropped together are often neighbours: one call for each run.
  PageRun run{PageNumber(0), 0};
  auto punch = [&]() -> Result<void> {
    return run.count == 0 ? Result<void>()
                          : punch_hole(memfd_.get(), run.first.value * kPageBytes, run.count * kPageBytes);
  };
  for (size_t i = 0; i < count; ++i) {
    const PageNumber page = noted_[first_noted_];
    first_noted_ = (first_noted_ + 1) % kMostDropped;
    --noted_count_;
    is_noted_[page.value] = false;
    if (!dropped_[page.value]) continue;
    dropped_[page.value] = false;
    if (run.count > 0 && run.end() == page) {
      ++run.count;
      continue;
    }
    HEC_TRY(punch());
    run = {page, 1};
  }
  return punch();
}

uint64_t CoherentMemory::bytes_in_use() const {
  struct stat status {};
  return fstat(memfd_.get(), &status) == 0 ? static_cast<uint64_t>(status.st_blocks) * 512 : 0;
}

void CoherentMemory::close_to_guest() {
  closed_ = true;
  // Nothing is left to do about an error: who owns the vCPUs is told that this is the end.
  (void)unmap_locked(guest_.data(), guest_.size());
}

}  // namespace hecaton::node
