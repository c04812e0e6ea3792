// A model of the guest and of the kernel's view of its memory, for tests: guest processors that read and write pages,
// which pages are present, mapped and protected, and the events that wait at each shard's userfaultfd. All in one
// thread, driven by a seed; the pager's logic runs against it through GuestMemory.
//
// It knows every byte that the guest wrote, and checks the design's invariants 1 to 6 as it goes. Preemption is
// modelled where it hurts: inside each kernel call of one of the pager's threads, whoever derives from this may let the
// guest and other threads run.
#pragma once

#include <deque>
#include <random>
#include <string>
#include <vector>

#include "pager/fault_server.h"
#include "pager/guest_memory.h"
#include "pager/pager_state.h"

namespace hecaton {

class GuestModel : public GuestMemory {
 public:
  struct Shape {
    uint64_t seed, pages;
    size_t processors;
    bool protected_map;  // false: a kernel before 6.4
    Stripes stripes;
  };
  explicit GuestModel(const Shape& shape);

  const std::string& breach() const { return breach_; }
  uint64_t accesses() const { return accesses_; }

  InstallOutcome zero_page(PageNumber page) override;
  InstallOutcome copy(PageRun run, const std::byte* bytes, bool write_protected, bool wake, uint64_t* done) override;
  InstallOutcome map(PageNumber page, bool write_protected) override;
  InstallOutcome protect(PageRun run) override;
  InstallOutcome unprotect(PageNumber page) override;
  InstallOutcome wake(PageRun run) override;
  InstallOutcome poison(PageNumber page) override;
  Result<void> punch(PageRun run) override;
  bool is_hole(PageNumber page) override { return !kernel_[page.value].present; }
  PageRun next_present(PageNumber from) override;
  std::byte* bytes(PageNumber page) override;
  bool can_map_protected() const override { return shape_.protected_map; }

 protected:
  virtual PagerState& pager() = 0;
  // Others may run now.
  virtual void preempt() = 0;
  // The evict thread is at work: others may run while it reads pages.
  virtual bool evictor_runs() const = 0;
  // A page that the table says is Remote is about to be punched: what is wrong with what donors have of it, in words.
  // `bytes` null: whatever bytes they are of that version.
  virtual std::string fault_of_copies(PageNumber page, uint32_t version, const std::byte* bytes) = 0;
  // Before and after everything that the pager does to the kernel: it may die here, which is thrown through its code.
  virtual void may_die() {}
  // The pager writes into a page that is not resident: half of that may be all that comes of it.
  virtual bool writes_may_tear() const { return false; }
  virtual bool recovering() const { return false; }
  // A pager has died: what donors were not told to forget yet may come back in pages that were discarded.
  virtual bool old_bytes_may_return() const { return false; }
  // A page is poisoned: whether that is as it should be.
  virtual bool may_be_poisoned(PageNumber) { return false; }

  struct Processor {
    bool waiting = false;
    PageNumber page;
    bool write = false;
    uint64_t scan = 0;   // pages left of a scan
    int64_t stride = 1;  // of the scan
  };
  // What waits at the userfaultfd of a shard.
  struct Events {
    std::deque<Fault> faults;
    std::deque<PageRun> removals;
  };

  Events& events_of(PageNumber page) { return events_[shape_.stripes.shard_of(page)]; }
  // The kernel wants an event to be read before it changes this page.
  bool must_read_first(PageNumber page) { return !events_of(page).removals.empty(); }
  void run_processor(Processor& processor);
  void access(Processor& processor);
  // The guest's process gives memory back, as QEMU's balloon does: the hole first, the event after. Nothing happens if
  // the guest is using it.
  void discard(PageRun run);
  // For as long as the pager serves that event.
  void discard_begins() { ++discarding_; }
  void discard_ends() { --discarding_; }
  void no_discard_is_served() { discarding_ = 0; }
  // Null if none waits.
  const Processor* waiting_processor() const;

  void check_budget();
  void check_punch(PageNumber page);
  void check_punch_of_recovery(PageNumber page, PageStatus status);
  void breach(const std::string& what, PageNumber page);
  uint64_t random(uint64_t below) { return random_() % below; }

  std::vector<Processor> processors_;
  std::vector<Events> events_;  // of each shard

 private:
  struct KernelPage {
    bool present = false;     // in the memfd
    bool mapped = false;      // in the guest
    bool protected_ = false;  // mapped, and a write raises an event
    bool poisoned = false;
    bool uncounted = false;  // made by a read of a hole; the evictor punches it again
  };
  std::byte* raw(PageNumber page) { return memory_.data() + page.value * kPageBytes; }
  void begin_scan(Processor& processor);
  void raise(PageNumber page, Fault::Kind kind, bool write);
  uint64_t word_of(PageNumber page) const;
  void set(PageNumber page, KernelPage state);
  void wake_waiters(PageRun run);

  const Shape shape_;
  std::mt19937_64 random_;
  std::vector<std::byte> memory_;
  std::vector<KernelPage> kernel_;
  uint64_t present_ = 0, uncounted_ = 0;  // pages
  std::vector<uint64_t> truth_;           // what the guest wrote last to each page
  std::vector<bool> forgiven_;            // discarded: zeros or the old bytes are both right
  int discarding_ = 0;                    // shards
  uint64_t accesses_ = 0;
  std::vector<PageNumber> written_to_{PageNumber(0)};  // each value
  std::string breach_;
};

}  // namespace hecaton
