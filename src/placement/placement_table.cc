#include "placement/placement_table.h"

#include <cmath>
#include <numeric>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"

namespace hecaton {

uint64_t donor_id(std::string_view address) {
  return XXH3_64bits(address.data(), address.size());
}

std::optional<std::vector<uint64_t>> split_by_capacity(uint64_t extents, const std::vector<uint64_t>& free_extents) {
  uint64_t total = std::accumulate(free_extents.begin(), free_extents.end(), uint64_t{0});
  if (total < extents) return std::nullopt;
  std::vector<uint64_t> shares;
  uint64_t dealt = 0;
  for (uint64_t free : free_extents) {
    auto share = static_cast<uint64_t>(static_cast<unsigned __int128>(extents) * free / total);
    shares.push_back(share);
    dealt += share;
  }
  // What rounding down left over goes to whoever has room.
  for (size_t i = 0; dealt < extents; i = (i + 1) % shares.size()) {
    if (shares[i] < free_extents[i]) {
      ++shares[i];
      ++dealt;
    }
  }
  return shares;
}

PlacementTable::PlacementTable(uint64_t extents, std::vector<DonorShare> donors)
    : donors_(std::move(donors)), placed_(donors_.size()), table_(extents) {
  HEC_CHECK(!donors_.empty() && donors_.size() <= kMaxDonors);
  for (auto& slot : table_) slot.store(kUnplaced);
}

std::optional<size_t> PlacementTable::donor_of(ExtentNumber extent) const {
  HEC_CHECK(extent.value < table_.size());
  uint16_t donor = table_[extent.value].load();
  return donor == kUnplaced ? std::nullopt : std::optional<size_t>(donor);
}

size_t PlacementTable::best_donor(ExtentNumber extent) const {
  size_t best = donors_.size();
  double best_score = -1;
  for (size_t i = 0; i < donors_.size(); ++i) {
    if (placed_[i].load() >= donors_[i].extents) continue;
    uint64_t hash = XXH3_64bits_withSeed(&extent.value, sizeof extent.value, donors_[i].id);
    double uniform = (static_cast<double>(hash >> 11) + 0.5) * 0x1p-53;
    double score = -static_cast<double>(donors_[i].extents) / std::log(uniform);
    if (score > best_score) {
      best_score = score;
      best = i;
    }
  }
  HEC_CHECK(best < donors_.size());  // the shares add up to the region
  return best;
}

size_t PlacementTable::place(ExtentNumber extent) {
  if (std::optional<size_t> donor = donor_of(extent)) return *donor;
  size_t donor = best_donor(extent);
  ++placed_[donor];
  table_[extent.value].store(static_cast<uint16_t>(donor));
  return donor;
}

}  // namespace hecaton
