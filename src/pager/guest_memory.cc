#include "pager/guest_memory.h"

namespace hecaton {

// Calls `call(uffd, part)` for each stripe's part of the run, up to the first that does not end well.
template <typename Call>
InstallOutcome UffdGuestMemory::by_stripe(PageRun run, Call call) const {
  InstallOutcome outcome = InstallOutcome::kInstalled;
  while (run.count > 0 && outcome == InstallOutcome::kInstalled) {
    const PageRun part = stripes_.within_stripe(run);
    outcome = call(uffd_of(part.first), part);
    run = PageRun{part.end(), run.count - part.count};
  }
  return outcome;
}

InstallOutcome UffdGuestMemory::zero_page(PageNumber page) {
  return uffd_of(page).zero_page(at(page));
}

InstallOutcome UffdGuestMemory::copy(PageRun run, const std::byte* bytes, bool write_protected, bool wake,
                                     uint64_t* done) {
  *done = 0;
  return by_stripe(run, [&](const Userfaultfd& uffd, PageRun part) {
    uint64_t done_bytes = 0;
    InstallOutcome outcome = uffd.copy(at(part.first), bytes + (part.first - run.first) * kPageBytes,
                                       part.count * kPageBytes, write_protected, wake, &done_bytes);
    *done += done_bytes / kPageBytes;
    return outcome;
  });
}

InstallOutcome UffdGuestMemory::map(PageNumber page, bool write_protected) {
  return uffd_of(page).continue_page(at(page), write_protected);
}

InstallOutcome UffdGuestMemory::protect(PageRun run) {
  return by_stripe(run, [&](const Userfaultfd& uffd, PageRun part) {
    return uffd.protect(at(part.first), part.count * kPageBytes);
  });
}

InstallOutcome UffdGuestMemory::unprotect(PageNumber page) {
  return uffd_of(page).unprotect(at(page), kPageBytes);
}

InstallOutcome UffdGuestMemory::wake(PageRun run) {
  return by_stripe(
      run, [&](const Userfaultfd& uffd, PageRun part) { return uffd.wake(at(part.first), part.count * kPageBytes); });
}

Result<void> UffdGuestMemory::punch(PageRun run) {
  return punch_hole(memfd_, run.first.value * kPageBytes, run.count * kPageBytes);
}

// A page that left was protected, and the mark of that is still in the way.
InstallOutcome UffdGuestMemory::poison(PageNumber page) {
  const InstallOutcome cleared = uffd_of(page).unprotect(at(page), kPageBytes);
  return cleared == InstallOutcome::kInstalled ? uffd_of(page).poison(at(page)) : cleared;
}

PageRun UffdGuestMemory::next_present(PageNumber from) {
  Result<std::optional<DataRange>> data = next_data(memfd_, from.value * kPageBytes);
  HEC_CHECK(data.ok());
  if (!data.value()) return {from, 0};
  const DataRange range = *data.value();
  return {PageNumber(range.first / kPageBytes), (range.end - range.first) / kPageBytes};
}

bool UffdGuestMemory::is_hole(PageNumber page) {
  Result<bool> hole = hecaton::is_hole(memfd_, page.value * kPageBytes);
  return hole.ok() && hole.value();
}

}  // namespace hecaton
