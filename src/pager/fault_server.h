// The life of a page fault. What an event means is decided by the page table:
//
//   Absent    a page of zeros, no traffic
//   Remote    a demand read from the donor that has the page; the answer is checked, put in place, and wakes
//   Fetching  nothing: whoever fetches it wakes; a prefetch that comes late learns where the reader is
//   Clean     a write: Dirty, then un-protect.  A first touch of a prefetched page: map it, and fetch further ahead
//   Leaving   a write: take it back, no traffic
//   Lost      a memory error
//   resident and yet "missing": a late message; wake, change nothing (invariant 6)
//
// One thread; each shard of the pager has a server of its own, for the pages of its stripes. Allocates nothing after
// construction, never waits: what cannot be done now is deferred and tried again by retry_deferred(). The network and
// the kernel are behind interfaces, so that tests can play both.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "pager/pager_state.h"
#include "residency/prefetcher.h"
#include "store/page_seal.h"
#include "wire/frame.h"

namespace hecaton {

struct Fault {
  enum class Kind : uint8_t { kMissing, kMinor, kWriteProtected };
  PageNumber page;
  Kind kind = Kind::kMissing;
  bool write = false;
  int64_t since_ns = 0;
};

// Where demand reads go and prefetch windows are queued, and who is told that memory is lost.
class FaultBackend {
 public:
  virtual ~FaultBackend() = default;
  // Asks for `page` where it is; the answer comes to FaultServer::on_read_reply with `slot`. `again`: the last answer
  // was no good, another donor is asked if there is one. False: nobody can be asked now; the backend comes back to it.
  virtual bool start_read(PageNumber page, uint32_t slot, bool again) = 0;
  // No donor that can be asked has the page intact. True: one that may come back has a copy; the backend asks again
  // when it is known what became of that one.
  virtual bool wait_for_copy(PageNumber page, uint32_t slot) = 0;
  // The donor whose answer is being taken, as a user knows it: for messages.
  virtual std::string answering_donor() { return "unknown"; }
  virtual void prefetch(const PrefetchWindow& window) = 0;
  // The reader of this stream is coming to that shard's pages: its server is to adopt it.
  virtual void hand_stream(unsigned shard, const Prefetcher::Stream& stream) = 0;
  virtual void wake_evictor() = 0;
  // Budget is free, for which a fault at some shard waits: all of them are to call retry_deferred().
  virtual void wake_fault_threads() = 0;
  virtual void report_loss(LossReport report) = 0;
};

class FaultServer {
 public:
  static constexpr size_t kSlots = 256;   // demand reads under way at most
  static constexpr int kMaxAttempts = 3;  // to read a page, for each copy of it

  FaultServer(PagerState& state, Prefetcher prefetcher, FaultBackend& backend, unsigned shard = 0);

  void handle(const Fault& fault);
  // Another shard's prefetcher has followed this stream to here.
  void adopt(const Prefetcher::Stream& stream) { prefetcher_.adopt(stream); }
  // The guest's process discards these pages (balloon, free page reporting): they become Absent.
  void discard(PageRun run);
  // An answer from the donor that `slot` was sent to. Error: the donor broke the protocol.
  Result<void> on_read_reply(uint64_t slot, wire::Status status, std::span<const std::byte> body);
  // No donor has the page of that slot any more, and none will.
  void give_up_read(uint32_t slot);
  // Tries again what was deferred. True if something still waits for another thread's kernel call to end (try again
  // soon); what waits for budget only is tried again after the evictor's wake.
  bool retry_deferred();

 private:
  static constexpr size_t kMaxDeferred = 16384;
  static constexpr int64_t kHolePatienceNs = 1'000'000'000;

  struct Slot {
    Fault fault;
    int attempts = 0;
    bool used = false;
    bool damaged = false;  // some donor's answer was no good
    CopySet copies{};      // when that answer came
  };
  enum class Outcome : uint8_t { kDone, kDefer, kDeferForBudget };

  void give_budget(uint64_t pages);
  Outcome try_serve(const Fault& fault);
  Outcome fill_with_zeros(const Fault& fault);
  Outcome fetch(const Fault& fault);
  Outcome leave_to_fetcher(const Fault& fault);
  Outcome make_writable(const Fault& fault, PageStatus status);
  Outcome map_resident(const Fault& fault, PageStatus status);
  Outcome settle_late(const Fault& fault);
  void count_used(PageNumber trigger);
  void fetch_ahead();
  void install(Slot& slot, uint32_t index, const std::byte* bytes);
  void drop_foreign_page(PageNumber page);
  std::string defect_of(const Slot& slot, const wire::PageSetView& pages, const std::byte** bytes);
  std::string unpack(PageNumber page, uint32_t version, std::span<const std::byte> stored, const std::byte** bytes);
  std::string at_donor(const std::string& defect, PageNumber page);
  void note_bad_seal(PageNumber page);
  void finish(const Fault& fault, int64_t now_ns);
  Outcome refuse(const Fault& fault);
  void defer(const Fault& fault, Outcome outcome);
  void free_slot(uint32_t index);
  Outcome poison(const Fault& fault);
  void try_again(uint32_t index, const std::string& defect);
  void lose(PageNumber page, std::string reason);
  void drop_discarded(uint32_t index);
  bool discard_waits(PageNumber page) const;
  std::optional<PageState> begin_discard(PageNumber page);
  void finish_discard(PageRun run, bool resident);

  PagerState& state_;
  Prefetcher prefetcher_;
  FaultBackend& backend_;
  const unsigned shard_;
  std::array<Slot, kSlots> slots_;
  std::optional<PageSeal> seal_;
  int64_t warned_ns_ = 0;                                   // of a bad seal
  alignas(64) std::array<std::byte, kPageBytes> opened_;    // the answer of a sealed VM, without its seal
  alignas(64) std::array<std::byte, kPageBytes> unpacked_;  // the page of a compressed answer
  std::vector<uint32_t> free_slots_;
  std::vector<Fault> deferred_;
  std::vector<Fault> retrying_;
  std::vector<PageRun> pending_discards_;
  std::vector<PageRun> retrying_discards_;
  uint64_t discarded_resident_ = 0;
  bool wake_everything_ = false;
  bool paused_ = false;  // counted in PagerState::prefetch_paused
  bool waiting_soon_ = false;
};

}  // namespace hecaton
