// Brings the extents of a region back to the protection that was asked for, after donors were lost, drained or added:
//
//   1  place      a copy more, at a donor with room: from now on it gets every write and discard of the extent
//   2  read       pages that the table says are at donors, from a complete copy
//   3  write      those that are still the newest, as they came, to the new copy
//   4  complete   in the placement table, once all are acknowledged; copies at leaving donors are dropped then
//
// A page that is Dirty or absent when 2 looks needs no copying: whenever it leaves, all copies get it, the new one
// among them. Reads are answered to the thread that evicts, and it alone writes to donors, on one connection to each:
// so what it sends later arrives later, and an older version never overtakes a newer one.
//
// Bytes per second are limited, and one piece is under way at a time, so that the guest hardly notices.
//
// One thread: the evict thread. The network is behind an interface, time is given.
#pragma once

#include <sys/uio.h>

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "pager/pager_state.h"
#include "store/donor_states.h"
#include "store/page_seal.h"
#include "wire/frame.h"

namespace hecaton {

class RepairBackend {
 public:
  virtual ~RepairBackend() = default;
  // Whether that donor can be written to now.
  virtual bool usable(size_t donor) const = 0;
  // As PlacementTable::place, at usable donors.
  virtual CopySet place(ExtentNumber extent) = 0;
  // `piece` comes back with the answer. False: the donor cannot be asked after all.
  virtual bool repair_read(uint64_t piece, size_t donor, std::span<const PageNumber> pages) = 0;
  virtual bool repair_write(uint64_t piece, size_t donor, std::span<const wire::PageEntry> entries,
                            std::span<const iovec> pages) = 0;
  // That donor may forget all of the extent.
  virtual void forget_extent(size_t donor, ExtentNumber extent) = 0;
};

class Repairer {
 public:
  // `bytes_per_second`: of what is copied.
  Repairer(PagerState& state, const DonorStates& states, RepairBackend& backend, uint64_t bytes_per_second);

  // Donors, or what they have room for, have changed.
  void look_again();
  // Whether step() has something to do, now or at wakes_at().
  bool due() const { return looking_ || extent_.has_value(); }
  int64_t wakes_at_ns() const { return next_piece_ns_; }
  bool waits_for_donor() const { return waiting_ != Waiting::kNothing; }
  void step(int64_t now_ns);

  // Answers; those of pieces that were given up are passed over. Error: the donor broke the protocol.
  Result<void> on_read(uint64_t piece, wire::Status status, std::span<const std::byte> body);
  Result<void> on_written(uint64_t piece, wire::Status status, std::span<const std::byte> body);
  // Its answer never comes.
  void give_up(size_t donor);
  // That copy is dropped: if it is in work, what was done for it counts no more, were it placed there again.
  void copy_dropped(ExtentNumber extent, size_t donor);

  // Copies for which no donor had room when all extents were last looked at. Any thread.
  uint64_t lacking_copies() const { return lacking_copies_.load(); }
  uint64_t copied_bytes() const { return copied_bytes_.load(); }
  // Pages that no complete copy gave intact, though it was asked several times. Any thread.
  uint64_t unreadable_pages() const { return unreadable_pages_.load(); }

  static constexpr size_t kPiecePages = 64;
  // How often a page is asked for before the copy is called complete without it: it is of no use to anyone, and the
  // rest of the extent is the safer for it. A demand read of the page says that it is lost.
  static constexpr int kMostTries = 8;

 private:
  enum class Waiting : uint8_t { kNothing, kRead, kWrite };
  bool find_work();
  bool settled_elsewhere(PageNumber page, uint32_t version_then) const;
  bool try_again();
  bool begin(ExtentNumber extent);
  std::optional<size_t> source_of(CopySet copies, std::optional<size_t> avoid = {}) const;
  void list_pages();
  void copy_piece(int64_t now_ns);
  bool intact(const wire::PageEntry& entry, std::span<const std::byte> stored);
  void finish();
  void drop_leaving();
  void abandon();

  PagerState& state_;
  const DonorStates& states_;
  RepairBackend& backend_;
  const uint64_t bytes_per_second_;
  bool looking_ = false;  // from next_ on, and again from the start if
  bool from_start_ = false;
  uint64_t next_ = 0;  // extent
  uint64_t lacking_now_ = 0;
  // The extent in work.
  std::optional<ExtentNumber> extent_;
  size_t target_ = 0, source_ = 0;
  Waiting waiting_ = Waiting::kNothing;
  std::vector<PageNumber> pages_, again_;  // to copy; of these, those that came damaged
  int tries_ = 0;
  std::vector<uint32_t> versions_;  // when they were asked for
  size_t done_ = 0, piece_ = 0;     // of pages_: copied, under way
  uint64_t piece_number_ = 0;       // tells the pieces, and their answers, apart
  int64_t next_piece_ns_ = 0;
  std::optional<PageSeal> seal_;
  std::array<std::byte, kPageBytes> opened_;  // for nobody to read
  std::vector<wire::PageEntry> entries_;
  std::vector<iovec> pieces_;
  std::atomic<uint64_t> lacking_copies_{0}, copied_bytes_{0}, unreadable_pages_{0};
};

}  // namespace hecaton
