#include "pager/guest_memory.h"

namespace hecaton {

InstallOutcome UffdGuestMemory::zero_page(PageNumber page) {
  return uffd_.zero_page(at(page));
}

InstallOutcome UffdGuestMemory::copy(PageRun run, const std::byte* bytes, bool write_protected, bool wake,
                                     uint64_t* done) {
  uint64_t done_bytes = 0;
  InstallOutcome outcome = uffd_.copy(at(run.first), bytes, run.count * kPageBytes, write_protected, wake, &done_bytes);
  *done = done_bytes / kPageBytes;
  return outcome;
}

InstallOutcome UffdGuestMemory::map(PageNumber page, bool write_protected) {
  return uffd_.continue_page(at(page), write_protected);
}

InstallOutcome UffdGuestMemory::protect(PageRun run) {
  return uffd_.protect(at(run.first), run.count * kPageBytes);
}

InstallOutcome UffdGuestMemory::unprotect(PageNumber page) {
  return uffd_.unprotect(at(page), kPageBytes);
}

InstallOutcome UffdGuestMemory::wake(PageRun run) {
  return uffd_.wake(at(run.first), run.count * kPageBytes);
}

Result<void> UffdGuestMemory::punch(PageRun run) {
  return punch_hole(memfd_, run.first.value * kPageBytes, run.count * kPageBytes);
}

bool UffdGuestMemory::is_hole(PageNumber page) {
  Result<bool> hole = hecaton::is_hole(memfd_, page.value * kPageBytes);
  return hole.ok() && hole.value();
}

}  // namespace hecaton
