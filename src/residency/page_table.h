// The page table of a region: for each page where its newest bytes are. The table is the authority: what a page fault
// means is decided by the state here, never by the kind of fault event.
//
//            begin_fill            finish_fetch                  begin_leave
//   Absent ─────────────▶ Filling ──────────────────▶ Dirty ◀──────┐    │
//     ▲                                              ▲ ▲           │    ▼
//     │ commit_absent       ┌── finish_fetch (write) ┘ │ begin_dirty  Leaving
//     │ begin_discard    Fetching ── (read) ─▶ Clean ──┘           │    │
//     │                     ▲ begin_fetch       └── begin_leave ───┼───▶│
//     └───── any            └─────────────────── Remote ◀── commit_remote
//
// One 32-bit word a page: state, flags and the version of the bytes. `busy` is a short lock: its owner is between the
// change of state and the kernel call that belongs to it (an un-protect, a protect, a punch). It is never held over
// the network. Everybody else leaves a busy page alone and comes back.
//
// Pure: no descriptor, no thread, no clock. Every transition is one atomic compare-and-swap, so any thread may try any;
// of two that race, one returns false. The words live in memory that the caller provides (a memfd's mapping), so that
// they outlive the pager: recover() makes a settled page of whatever a pager that died has left.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/units.h"

namespace hecaton {

enum class PageState : uint8_t {
  kAbsent = 0,    // never written, or discarded: reads as zeros, is nowhere
  kRemote = 1,    // newest bytes at donors only
  kFetching = 2,  // being put in place; whoever made it Fetching finishes it
  kClean = 3,     // resident, write-protected, donors hold the same bytes
  kDirty = 4,     // resident; donors hold older bytes or none
  kLeaving = 5,   // resident, write-protected, being written back
  kFilling = 6,   // zeros are being put in place; whoever made it Filling finishes it
  kLost = 7,      // its newest bytes are nowhere any more: whoever touches it gets a memory error
};
const char* name_of(PageState state);
constexpr bool is_resident(PageState state) {
  return state == PageState::kClean || state == PageState::kDirty || state == PageState::kLeaving;
}

struct PageStatus {
  PageState state = PageState::kAbsent;
  bool busy = false;
  bool held = false;        // a donor has some version of it, so a discard must be told to the donor
  bool trigger = false;     // prefetched and left unmapped: its first touch shows that its window was used.
                            // Of a Fetching page: it is being put in place writable
  bool referenced = false;  // seen in use (a write to a clean page, a trigger) since the eviction policy last looked
  bool prefetched = false;  // fetched ahead, and nothing shows yet that its window was used
  bool ghost = false;       // left since the eviction policy last looked; resident again: came back by demand
  uint8_t level = 0;        // how often it came back soon after it had left: 0 … PageTable::kMaxLevel
  uint32_t version = 0;     // of the newest bytes that were ever sent; 21 bits, 0: none

  bool resident() const { return is_resident(state); }
};

class PageTable {
 public:
  using Word = std::atomic<uint32_t>;
  static constexpr size_t kBytesPerPage = sizeof(Word);
  static constexpr size_t kBytesPerExtent = sizeof(std::atomic<uint32_t>);
  static constexpr uint8_t kMaxLevel = 3;

  // All zeros is a table of absent pages. `words` must outlive the table.
  explicit PageTable(std::span<Word> words) : words_(words), arrived_(extents_in(words.size())) {}

  uint64_t pages() const { return words_.size(); }
  PageStatus get(PageNumber page) const;

  // --- bringing a page in; the one who began it finishes it
  bool begin_fill(PageNumber page);   // Absent → Filling
  bool begin_fetch(PageNumber page);  // Remote → Fetching
  enum class Arrival : uint8_t { kClean, kPrefetched, kPrefetchedTrigger, kDirty };
  // Before a kernel call that lets the guest write to the Fetching page: from here on the bytes in the memfd, if there
  // are any, may be newer than the donor's.
  void mark_writable(PageNumber page);
  void finish_fetch(PageNumber page, Arrival arrival);  // Fetching → Clean or Dirty; Filling → Dirty
  void abort_fetch(PageNumber page);                    // Fetching → Remote: the fetch did not happen
  void abort_fill(PageNumber page);                     // Filling → Absent: the fill did not happen
  void drop_fetch(PageNumber page);                     // Fetching → Absent: it was discarded meanwhile

  // --- the guest's accesses to resident pages; each leaves the page busy until release()
  bool begin_dirty(PageNumber page);  // Clean, Dirty, Leaving → Dirty + busy
  bool begin_map(PageNumber page);    // Clean, Dirty → the same + busy, no longer a trigger
  // Any settled state → Absent + busy. The state it had, or nothing if the page is busy or Fetching: come back.
  std::optional<PageState> begin_discard(PageNumber page);
  bool begin_absent(PageNumber page);  // Absent → Absent + busy
  bool begin_gap(PageNumber page);     // Absent, Remote → the same + busy: nobody puts it in place until release()
  void release(PageNumber page);

  // --- when donors are lost
  bool keep_here(PageNumber page);  // Clean → Dirty: no donor holds its bytes any more
  bool lose(PageNumber page);       // Remote, Fetching, Filling → Lost

  // True once for a page that was prefetched and is still resident: for counting those whose window was used.
  bool take_prefetched(PageNumber page);

  // --- eviction
  struct Leave {
    bool dirty;        // must be sent, as `version`
    bool trigger;      // was prefetched and never touched
    uint32_t version;  // of the bytes that donors hold once it is gone
  };
  // Clean or Dirty → Leaving + busy. A dirty page gets its next version.
  std::optional<Leave> begin_leave(PageNumber page);
  void cancel_leave(PageNumber page, const Leave& leave);  // Leaving + busy → Clean or Dirty as it was
  void mark_held(PageNumber page);                         // its bytes are about to be sent to a donor
  // Leaving → Dirty: it was not sent. `referenced`: it is not to be tried again before the policy's next look.
  bool keep_dirty(PageNumber page, uint32_t version, bool referenced);
  bool commit_clean(PageNumber page, uint32_t version);   // Leaving, same version → Clean: written back, and stays
  bool commit_remote(PageNumber page, uint32_t version);  // Leaving, same version → Remote + busy
  bool commit_absent(PageNumber page, uint32_t version);  // Leaving, same version → Absent + busy
  // --- for the eviction policy
  // What the page is, and counts the look: a page that came back since the last look rises a level, or falls one if it
  // came back long after it had left (not `recent`); one that stayed away falls one. Then `referenced` and `ghost`
  // begin anew; what is returned has them as they were, `ghost` only if the page rose.
  PageStatus look(PageNumber page, bool recent);
  // Extents into which a page came since they were last forgotten here: each once, newest first. One thread.
  template <typename Use>
  void take_arrivals(Use use);
  // The extent's next arrival is to be told again. Before its pages are looked at, so that none is missed.
  void forget_arrivals(ExtentNumber extent) { arrived_[extent.value].store(kNotListed); }
  // The opposite, for an extent that still has pages. False if there was an arrival meanwhile: it will be told.
  bool keep_arrivals(ExtentNumber extent) {
    uint32_t none = kNotListed;
    return arrived_[extent.value].compare_exchange_strong(none, kLast);
  }
  // Absent and still held → no longer held: the caller tells the donor.
  bool take_discarded(PageNumber page);

  // --- after the death of the pager that used these words, before anybody else uses them
  // Settles a page. `present`: the memfd has it. True: it must be punched, for the table says that it is elsewhere.
  // Again after a death in between: the same. ADR 11 goes through all that can have happened.
  bool recover(PageNumber page, bool present);

 private:
  template <typename Change>
  bool change(PageNumber page, Change next);
  void settle(PageNumber page, PageState from, PageState to);
  void note_arrival(PageNumber page);

  // A stack of extents, linked by number + 2: pushed by any thread, taken as a whole by one.
  static constexpr uint32_t kNotListed = 0;
  static constexpr uint32_t kLast = 1;
  std::span<Word> words_;
  std::vector<std::atomic<uint32_t>> arrived_;  // the next of the stack, or kNotListed
  std::atomic<uint32_t> newest_arrived_{kLast};
};

template <typename Use>
void PageTable::take_arrivals(Use use) {
  for (uint32_t link = newest_arrived_.exchange(kLast); link != kLast;) {
    const ExtentNumber extent(link - 2);
    link = arrived_[extent.value].load();
    use(extent);
  }
}

}  // namespace hecaton
