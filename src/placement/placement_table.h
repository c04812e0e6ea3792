// Which donor holds an extent. Extents are dealt out by weighted rendezvous hashing over the donors that have room (so
// that one more or one less donor moves few extents) and written down in a table, because the table, not the hash, is
// what can be changed for one extent later.
//
// Weighted rendezvous: the donor with the largest -weight / ln(u), u uniform in (0, 1) from a hash of donor and extent.
// Source: Thaler, Ravishankar, "Using name-based mappings to increase hit rates", 1998; weights after Schindelhauer,
// Schomaker, "Weighted distributed hash tables", 2005.
//
// Pure. One thread places; any thread asks.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/units.h"

namespace hecaton {

struct DonorShare {
  uint64_t id = 0;       // stable over restarts: hash of the donor's address
  uint64_t extents = 0;  // how many extents it may get; its weight
};

uint64_t donor_id(std::string_view address);

// Splits `extents` over donors in proportion to the extents each has free. Nothing if they have too little together.
std::optional<std::vector<uint64_t>> split_by_capacity(uint64_t extents, const std::vector<uint64_t>& free_extents);

class PlacementTable {
 public:
  PlacementTable(uint64_t extents, std::vector<DonorShare> donors);

  // The donor (index) of an extent; nothing if it was never placed.
  std::optional<size_t> donor_of(ExtentNumber extent) const;
  // Places the extent if it is not placed yet.
  size_t place(ExtentNumber extent);
  uint64_t placed_at(size_t donor) const { return placed_[donor].load(); }

  static constexpr size_t kBytesPerExtent = sizeof(uint16_t);
  static constexpr size_t kMaxDonors = 65534;

 private:
  static constexpr uint16_t kUnplaced = 0xffff;
  size_t best_donor(ExtentNumber extent) const;
  std::vector<DonorShare> donors_;
  std::vector<std::atomic<uint64_t>> placed_;
  std::vector<std::atomic<uint16_t>> table_;
};

}  // namespace hecaton
