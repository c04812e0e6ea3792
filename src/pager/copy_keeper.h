// The evict thread's side of donors: writes go to every copy of an extent, copies are placed, dropped and brought back,
// and what becomes of them when donors fail. It has the thread's connections, without its sleep. EvictLoop drives it,
// and so does the simulation of tests/sim/paging.
//
// The thread that drives it is the only one that changes the placement. One thread.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "pager/evictor.h"
#include "pager/loop_context.h"
#include "pager/repairer.h"
#include "store/silence_watch.h"
#include "store/write_fanout.h"

namespace hecaton {

class CopyKeeper final : public EvictionBackend, public RepairBackend {
 public:
  struct Hooks {
    std::function<void()> wake_fault_threads;
    std::function<void()> let_others_run;  // between two pieces of work, when there is no hurry
  };
  CopyKeeper(LoopContext context, Hooks hooks);
  CopyKeeper(const CopyKeeper&) = delete;
  CopyKeeper& operator=(const CopyKeeper&) = delete;

  Evictor& evictor() { return evictor_; }
  const Evictor& evictor() const { return evictor_; }
  const Repairer& repairer() const { return repairer_; }
  uint64_t owed() const { return watch_.owed(); }  // answers, by all donors
  bool any_owed() const { return watch_.any_owed(); }

  // Other threads, the pool's own among them, have found out something about donors: see_changes() comes before
  // anything else.
  bool changes_due() const { return context_.pool.states().changes() != seen_changes_ || !ended_.empty(); }
  void see_changes();
  // Reads what that donor's connection has to say.
  void receive(size_t donor);
  void check_patience() { context_.check_silence(watch_); }
  void step_repair();
  bool repair_due() const { return repairer_.due() || !unsure_.empty(); }
  // How long to wait for a donor before the next step_repair().
  int64_t wait_for_repair_ns() const;

  bool prepare(ExtentNumber extent) override;
  void send_write(uint64_t batch, ExtentNumber extent, std::span<const wire::PageEntry> entries,
                  std::span<const iovec> pages) override;
  void send_discard(ExtentNumber extent, std::span<const PageRun> runs) override;
  void wake_fault_threads() override { hooks_.wake_fault_threads(); }
  void let_others_run() override { hooks_.let_others_run(); }
  bool usable(size_t donor) const override;
  CopySet place(ExtentNumber extent) override;
  bool repair_read(uint64_t piece, size_t donor, std::span<const PageNumber> pages) override;
  bool repair_write(uint64_t piece, size_t donor, std::span<const wire::PageEntry> entries,
                    std::span<const iovec> pages) override;
  void forget_extent(size_t donor, ExtentNumber extent) override;

 private:
  Result<void> take_reply(size_t donor, const wire::FrameHeader& header, std::span<const std::byte> body);
  void tell_room();
  void note_without_room(ExtentNumber extent);
  void see_change(size_t donor, DonorState state);
  void connection_ended(size_t donor, const Error& error);
  void give_up_batches(size_t donor, bool whatever);
  bool room_is_short() const;
  bool can_do_without(size_t donor, CopySet copies) const;
  void drop_copy(ExtentNumber extent, size_t donor);
  void forget_stale(size_t donor);
  void repeat_discards();
  void discard_at(size_t donor, std::span<const PageRun> runs);
  void take_over_copies(size_t donor, size_t from);
  void forget_all_but_copies(size_t donor);
  void lose_donor(size_t donor);
  void lose_extent(ExtentNumber extent, LossReport* loss);

  static constexpr uint64_t kDiscardId = UINT64_MAX;
  // And the piece's number; batches have none of these bits.
  static constexpr uint64_t kRepairRead = uint64_t{1} << 62, kRepairWrite = uint64_t{1} << 61;
  LoopContext context_;
  const Hooks hooks_;
  SilenceWatch watch_;
  Evictor evictor_;
  WriteFanout fanout_;
  Repairer repairer_;
  const size_t first_donors_;                     // were there at the start, with nothing of this VM
  std::vector<DonorState> seen_;                  // of each donor
  std::vector<std::vector<ExtentNumber>> stale_;  // at each donor: extents that it may have pages of, and should not
  struct Copy {
    ExtentNumber extent;
    size_t donor;
  };
  std::vector<Copy> unsure_;   // that may have missed a discard
  std::vector<size_t> ended_;  // donors whose connection has ended
  uint64_t seen_changes_ = 0;
  // Since when some extents have too few copies, and what had been copied by then; 0: all have enough.
  int64_t exposed_since_ns_ = 0;
  uint64_t copied_before_ = 0;
  uint64_t without_room_ = 0;  // extents that could not be placed at all, and which
  std::vector<bool> found_no_room_;
};

}  // namespace hecaton
