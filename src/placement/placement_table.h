// Which donors hold an extent. Copies are dealt out by weighted rendezvous hashing over the donors that have room (so
// that one more or one less donor moves few extents) and written down in a table, because the table, not the hash, is
// what changes when a donor is lost, drained or added.
//
// Weighted rendezvous: the donor with the largest -weight / ln(u), u uniform in (0, 1) from a hash of donor and extent.
// Source: Thaler, Ravishankar, "Using name-based mappings to increase hit rates", 1998; weights after Schindelhauer,
// Schomaker, "Weighted distributed hash tables", 2005. Of very many donors a sample is looked at, drawn by the extent.
//
// Pure. One thread places and changes copies (the evict thread); one adds donors and says what they can take; any
// thread asks. The words live in memory that the caller provides, so that they outlive the pager.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "placement/copy_set.h"

namespace hecaton {

// What must be acknowledged before a page leaves the host.
enum class Protection : uint8_t {
  kNone,    // one copy, at a donor
  kMirror,  // two, at two donors; on the host's disk instead of a donor if there are not two
  kSpill,   // two: at a donor, and on the host's disk
};
constexpr size_t wanted_copies(Protection protection) {
  return protection == Protection::kNone ? 1 : 2;
}

struct DonorShare {
  uint64_t id = 0;          // stable over restarts: hash of the donor's address
  uint64_t extents = 0;     // how many extents it may get; its weight
  uint64_t machine = 0;     // the same for donors that fail together; 0: its own
  bool local_disk = false;  // the host's own disk: for what protection asks of it only
};

uint64_t donor_id(std::string_view address);

// Splits `copies` copies of each of `extents` over donors in proportion to the extents each has free, and at most one
// copy of an extent to each. Nothing if they have too little together.
std::optional<std::vector<uint64_t>> split_by_capacity(uint64_t extents, size_t copies,
                                                       const std::vector<uint64_t>& free_extents);

class PlacementTable {
 public:
  using Word = std::atomic<uint64_t>;
  static constexpr size_t kBytesPerExtent = sizeof(Word);

  // All zeros: nothing is placed. `words`, one for each extent, must outlive the table.
  PlacementTable(std::span<Word> words, Protection protection, size_t most_donors);

  // --- donors, numbered from 0 in the order in which they are added; no number is used twice
  size_t add_donor(const DonorShare& share);
  size_t donors() const { return donors_count_.load(); }
  void set_capacity(size_t donor, uint64_t extents) { donors_[donor].extents.store(extents); }
  uint64_t capacity(size_t donor) const { return donors_[donor].extents.load(); }
  // Whether it may get copies; what it has already stays.
  void set_open(size_t donor, bool open) { donors_[donor].open.store(open); }
  bool is_open(size_t donor) const { return donors_[donor].open.load(); }
  // Its copies do not count as protection any more: they are to move.
  void set_leaving(size_t donor, bool leaving) { donors_[donor].leaving.store(leaving); }
  bool is_leaving(size_t donor) const { return donors_[donor].leaving.load(); }
  bool is_local_disk(size_t donor) const { return donors_[donor].local_disk; }
  uint64_t placed_at(size_t donor) const { return donors_[donor].placed.load(); }

  // --- extents
  uint64_t extents() const { return words_.size(); }
  CopySet copies_of(ExtentNumber extent) const { return CopySet(words_[extent.value].load()); }
  Protection protection() const { return protection_; }
  size_t wanted() const { return wanted_copies(protection_); }
  // Copies that count as protection.
  size_t lasting_copies(CopySet copies) const;
  bool under_protected(ExtentNumber extent) const { return lasting_copies(copies_of(extent)) < wanted(); }

  // --- the placing thread
  // Adds the copies that protection still asks for, as far as donors have room. They are complete at once if there was
  // none before; else they must be filled. Returns what there is now; empty: there is no room anywhere. Donors that are
  // not `usable` now get none.
  using Usable = std::function<bool(size_t donor)>;
  CopySet place(
      ExtentNumber extent, const Usable& usable = [](size_t) { return true; });
  void complete(ExtentNumber extent, size_t donor);
  void drop(ExtentNumber extent, size_t donor);
  // Another number for the same donor.
  void rename(ExtentNumber extent, size_t from, size_t to);
  // Of a table whose words came from elsewhere: counts what is placed where. The donors have been added before.
  void recount();

 private:
  struct Donor {
    uint64_t id = 0, machine = 0;
    bool local_disk = false;
    std::atomic<uint64_t> extents{0}, placed{0};
    std::atomic<bool> open{true}, leaving{false};
  };
  static constexpr size_t kSample = 64;
  enum class Kind : uint8_t { kDonor, kLocalDisk };
  std::optional<size_t> next_donor(ExtentNumber extent, CopySet copies, const Usable& usable) const;
  std::optional<size_t> best_of(Kind kind, ExtentNumber extent, CopySet copies, const Usable& usable) const;
  bool takes(size_t donor, Kind kind, CopySet copies) const;
  double score(size_t donor, ExtentNumber extent) const;
  bool apart(size_t donor, CopySet copies) const;
  void set(ExtentNumber extent, CopySet copies) { words_[extent.value].store(copies.word()); }

  const std::span<Word> words_;
  const Protection protection_;
  const size_t most_donors_;
  std::unique_ptr<Donor[]> donors_;
  std::atomic<size_t> donors_count_{0};
};

}  // namespace hecaton
