// The guest's memory as the pager sees it: the range that the guest faults on (through a userfaultfd) and the pager's
// own view of the same memfd. An interface, so that the fault, eviction and prefetch logic runs on a model in tests.
//
// Any thread. Outcomes are values: see InstallOutcome.
#pragma once

#include <span>

#include "base/stripes.h"
#include "base/units.h"
#include "os/memory.h"
#include "os/userfaultfd.h"

namespace hecaton {

class GuestMemory {
 public:
  virtual ~GuestMemory() = default;

  // Puts a writable page of zeros in place and wakes.
  virtual InstallOutcome zero_page(PageNumber page) = 0;
  // Puts bytes in place. `done` tells how many pages of the run are in place, whatever the outcome.
  virtual InstallOutcome copy(PageRun run, const std::byte* bytes, bool write_protected, bool wake, uint64_t* done) = 0;
  // Maps a page that the memfd has already, and wakes. Write-protected only if can_map_protected().
  virtual InstallOutcome map(PageNumber page, bool write_protected) = 0;
  virtual InstallOutcome protect(PageRun run) = 0;
  virtual InstallOutcome unprotect(PageNumber page) = 0;  // and wakes
  virtual InstallOutcome wake(PageRun run) = 0;
  // Frees the memory of the run; every mapping faults on it from now on.
  virtual Result<void> punch(PageRun run) = 0;
  // Whoever touches the page, now or later, gets a memory error; and wakes. Only if can_poison(), and of a hole.
  virtual InstallOutcome poison(PageNumber page) = 0;
  // Whether the memfd has no page there.
  virtual bool is_hole(PageNumber page) = 0;
  // The first run of pages at or after `from` that the memfd has; an empty one if there is none.
  virtual PageRun next_present(PageNumber from) = 0;
  // The pager's own view. Reading a hole through it makes a page of zeros.
  virtual std::byte* bytes(PageNumber page) = 0;
  virtual bool can_map_protected() const = 0;
};

// Every call goes to the userfaultfd of the page's stripe. The kernel would fill and protect pages through any of them,
// but wakes only those that wait at the very one, and asks only that one whether an event waits to be read. A run may
// go over several stripes; it ends at the first part that fails.
class UffdGuestMemory final : public GuestMemory {
 public:
  // `uffds`: one for each shard. `base`: where the guest process has the memory mapped. `own_view` maps the same memfd.
  // All of them outlive this object.
  UffdGuestMemory(std::span<const Userfaultfd> uffds, Stripes stripes, RemoteAddress base, int memfd,
                  std::byte* own_view, bool can_map_protected)
      : uffds_(uffds),
        stripes_(stripes),
        base_(base),
        memfd_(memfd),
        own_view_(own_view),
        can_map_protected_(can_map_protected) {}

  InstallOutcome zero_page(PageNumber page) override;
  InstallOutcome copy(PageRun run, const std::byte* bytes, bool write_protected, bool wake, uint64_t* done) override;
  InstallOutcome map(PageNumber page, bool write_protected) override;
  InstallOutcome protect(PageRun run) override;
  InstallOutcome unprotect(PageNumber page) override;
  InstallOutcome wake(PageRun run) override;
  Result<void> punch(PageRun run) override;
  InstallOutcome poison(PageNumber page) override;
  bool is_hole(PageNumber page) override;
  PageRun next_present(PageNumber from) override;
  std::byte* bytes(PageNumber page) override { return own_view_ + page.value * kPageBytes; }
  bool can_map_protected() const override { return can_map_protected_; }

 private:
  RemoteAddress at(PageNumber page) const { return base_ + page.value * kPageBytes; }
  const Userfaultfd& uffd_of(PageNumber page) const { return uffds_[stripes_.shard_of(page)]; }
  template <typename Call>
  InstallOutcome by_stripe(PageRun run, Call call) const;
  const std::span<const Userfaultfd> uffds_;
  const Stripes stripes_;
  const RemoteAddress base_;
  const int memfd_;
  std::byte* const own_view_;
  const bool can_map_protected_;
};

}  // namespace hecaton
