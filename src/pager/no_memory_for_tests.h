// For tests of what touches no guest memory.
#pragma once

#include "pager/guest_memory.h"

namespace hecaton {

class NoMemory final : public GuestMemory {
 public:
  InstallOutcome zero_page(PageNumber) override { return InstallOutcome::kFailed; }
  InstallOutcome copy(PageRun, const std::byte*, bool, bool, uint64_t*) override { return InstallOutcome::kFailed; }
  InstallOutcome map(PageNumber, bool) override { return InstallOutcome::kFailed; }
  InstallOutcome protect(PageRun) override { return InstallOutcome::kFailed; }
  InstallOutcome unprotect(PageNumber) override { return InstallOutcome::kFailed; }
  InstallOutcome poison(PageNumber) override { return InstallOutcome::kFailed; }
  InstallOutcome wake(PageRun) override { return InstallOutcome::kFailed; }
  Result<void> punch(PageRun) override { return {}; }
  bool is_hole(PageNumber) override { return true; }
  PageRun next_present(PageNumber from) override { return {from, 0}; }
  std::byte* bytes(PageNumber) override { return nullptr; }
  bool can_map_protected() const override { return true; }
};

}  // namespace hecaton
