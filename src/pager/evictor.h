// Keeps the guest within its budget, in the background. For each run of pages that the policy picks:
//
//   1  Leaving        in the table, and busy until 2 is done
//   2  protect        from here on a write raises an event, and takes the page back (clean pages are protected already)
//   3  send           dirty pages, straight from the pager's view, or compressed, or sealed (PagePacker); clean ones
//                     and pages of zeros skip this
//   4  acknowledged   the donor has that very version, checksum verified
//   5  Remote + busy  in the table, if nobody took the page back meanwhile (pages of zeros: Absent)
//   6  punch          the memory is free; then not busy any more, counted out of the budget, waiters woken
//
// The kernel's price is per call, so a run may have gaps: pages that are not here anyway. They are made busy for the
// length of the punch, so that nobody puts one in place under it, and one call frees all residents of the run.
//
// Pages that will leave next are written back ahead of need: their run goes through 1 to 4, and they stay, Clean, until
// budget is wanted; then only 5 and 6 are left to do.
//
// Several runs are under way at once, so that the network and the kernel work side by side. Nothing here is ever waited
// for by a fault, unless the budget is used up to the last page.
//
// One thread. The donor is behind an interface, so that tests can play it.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <vector>

#include "pager/page_packer.h"
#include "pager/pager_state.h"
#include "pager/pipe_meter.h"
#include "residency/eviction_policy.h"
#include "wire/frame.h"

namespace hecaton {

class EvictionBackend {
 public:
  virtual ~EvictionBackend() = default;
  // Whether pages of that extent can leave now: all its copies are at donors that can be asked (it is placed if need
  // be), and one at least is complete.
  virtual bool prepare(ExtentNumber extent) = 0;
  // Sends pages of one extent to all of its copies. Evictor::on_written or on_write_failed follows, later.
  virtual void send_write(uint64_t batch, ExtentNumber extent, std::span<const wire::PageEntry> entries,
                          std::span<const iovec> pages) = 0;
  // The donor may forget these pages of one extent. Ordered with send_write.
  virtual void send_discard(ExtentNumber extent, std::span<const PageRun> runs) = 0;
  virtual void wake_fault_threads() = 0;
  // Called between two pieces of work, when there is no hurry.
  virtual void let_others_run() = 0;
};

class Evictor {
 public:
  Evictor(PagerState& state, EvictionBackend& backend, Compression compression);

  static constexpr size_t kDepth = 4;  // batches under way at most

  // Starts a run if one is due. What stopped it, if nothing was started:
  enum class Started : uint8_t { kYes, kNotDue, kAllBusy, kTryAgain };
  Started start();
  // Whether start() has something to do, were it only to write back ahead of need.
  bool due() const { return eviction_wanted() || cleaning_wanted(); }
  // All donors have taken a batch, but for these pages.
  Result<void> on_written(uint64_t batch, std::span<const PageNumber> rejected);
  // Not all have, and the pages stay here for now.
  void on_write_failed(uint64_t batch);
  // Tells donors what was discarded: some of it at a time, because the answers must be read in between, or both sides
  // would wait for the other to read. Call again while more_discards().
  static constexpr size_t kDiscardsAtOnce = 64;
  void send_discards();
  bool more_discards() const { return next_discards_ != 0 || state_.any_discards(); }
  size_t in_flight() const { return in_flight_; }

 private:
  static constexpr size_t kMostReady = 64;
  enum class Purpose : uint8_t { kEvict, kWriteBack };
  struct Item {
    PageTable::Leave leave{};
    bool begun = false;  // was resident, and is Leaving on account of this batch
    bool mine = false;   // begun, and neither taken back nor given up since
    bool zero = false;
    bool rejected = false;
  };
  struct Batch {
    PageRun run;
    std::array<Item, EvictionPolicy::kMaxRun> items;
    uint64_t pages = 0;       // of `items`, those that were begun
    uint64_t candidates = 0;  // those that could leave, as they are now or once they are written back
    Purpose purpose = Purpose::kEvict;
    bool used = false;
    // Of what was sent:
    uint64_t sent_pages = 0;
    bool packed = false;
    int64_t sent_at = 0;  // on the meter's clock
  };

  Started start_run();
  bool eviction_wanted() const;
  bool cleaning_wanted() const;
  PageRun next_run(Purpose purpose);
  void make_ready(const Batch& batch);
  bool take_pages(Batch& batch);
  bool protect_pages(Batch& batch);
  void give_up(Batch& batch);
  bool send(Batch& batch, uint64_t index);
  void add_piece(std::span<const std::byte> stored);
  void settle(Batch& batch);
  void complete(Batch& batch);
  bool commit(Purpose purpose, const Item& item, PageNumber page);
  void free_committed(Batch& batch);
  void punch_stretch(const Batch& batch, uint64_t first, uint64_t end);
  void gather_discards(ExtentNumber extent);
  void free_reread_holes(const Batch& batch);
  PageNumber page_of(const Batch& batch, uint64_t i) const { return batch.run.first + i; }

  PagerState& state_;
  EvictionBackend& backend_;
  EvictionPolicy policy_;
  PagePacker packer_;
  PipeMeter meter_;
  std::vector<Batch> batches_;
  uint64_t next_discards_ = 0;  // extent to go on with; 0: begin anew
  size_t in_flight_ = 0;
  uint64_t leaving_pages_ = 0;   // of the batches in flight that evict
  uint64_t cleaning_pages_ = 0;  // of those that write back ahead of need
  // Runs that leave next, oldest first: chosen, and written back if they were dirty.
  struct Ready {
    PageRun run;
    uint64_t pages = 0;  // of it, that could leave
  };
  std::array<Ready, kMostReady> ready_{};
  size_t first_ready_ = 0, ready_runs_ = 0;
  uint64_t ready_pages_ = 0;
  std::vector<wire::PageEntry> entries_;
  std::vector<iovec> pieces_;
  std::vector<PageRun> runs_;
};

}  // namespace hecaton
