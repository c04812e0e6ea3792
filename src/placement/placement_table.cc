#include "placement/placement_table.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"

namespace hecaton {

uint64_t donor_id(std::string_view address) {
  return XXH3_64bits(address.data(), address.size());
}

std::optional<std::vector<uint64_t>> split_by_capacity(uint64_t extents, size_t copies,
                                                       const std::vector<uint64_t>& free_extents) {
  // No donor takes an extent twice, so none can use more than `extents`.
  std::vector<uint64_t> usable;
  for (uint64_t free : free_extents) usable.push_back(std::min(free, extents));
  const uint64_t total = std::accumulate(usable.begin(), usable.end(), uint64_t{0});
  const uint64_t needed = extents * copies;
  if (total < needed) return std::nullopt;
  std::vector<uint64_t> shares;
  uint64_t dealt = 0;
  for (uint64_t free : usable) {
    auto share = static_cast<uint64_t>(static_cast<unsigned __int128>(needed) * free / total);
    shares.push_back(share);
    dealt += share;
  }
  // What rounding down left over goes to whoever has room.
  for (size_t i = 0; dealt < needed; i = (i + 1) % shares.size()) {
    if (shares[i] < usable[i]) {
      ++shares[i];
      ++dealt;
    }
  }
  return shares;
}

PlacementTable::PlacementTable(std::span<Word> words, Protection protection, size_t most_donors)
    : words_(words), protection_(protection), most_donors_(most_donors), donors_(new Donor[most_donors]) {
  HEC_CHECK(most_donors <= CopySet::kMostDonors);
}

size_t PlacementTable::add_donor(const DonorShare& share) {
  const size_t donor = donors_count_.load();
  HEC_CHECK(donor < most_donors_);
  donors_[donor].id = share.id;
  donors_[donor].machine = share.machine == 0 ? share.id : share.machine;
  donors_[donor].local_disk = share.local_disk;
  donors_[donor].extents.store(share.extents);
  donors_count_.store(donor + 1);  // after its fields: whoever counts it reads them
  return donor;
}

size_t PlacementTable::lasting_copies(CopySet copies) const {
  size_t lasting = 0;
  for (size_t i = 0; i < copies.size(); ++i) lasting += !is_leaving(copies[i].donor);
  return lasting;
}

bool PlacementTable::takes(size_t donor, Kind kind, CopySet copies) const {
  const Donor& it = donors_[donor];
  return it.local_disk == (kind == Kind::kLocalDisk) && it.open.load() && it.placed.load() < it.extents.load() &&
         !copies.has(donor);
}

double PlacementTable::score(size_t donor, ExtentNumber extent) const {
  const uint64_t hash = XXH3_64bits_withSeed(&extent.value, sizeof extent.value, donors_[donor].id);
  const double uniform = (static_cast<double>(hash >> 11) + 0.5) * 0x1p-53;
  return -static_cast<double>(donors_[donor].extents.load()) / std::log(uniform);
}

// Not on a machine that has a copy already.
bool PlacementTable::apart(size_t donor, CopySet copies) const {
  for (size_t i = 0; i < copies.size(); ++i) {
    if (donors_[copies[i].donor].machine == donors_[donor].machine) return false;
  }
  return true;
}

std::optional<size_t> PlacementTable::best_of(Kind kind, ExtentNumber extent, CopySet copies,
                                              const Usable& usable) const {
  std::optional<size_t> best;
  double best_score = -1;
  bool best_apart = false;
  auto look = [&](size_t donor) {
    if (!takes(donor, kind, copies) || !usable(donor)) return;
    const double its_score = score(donor, extent);
    const bool its_apart = apart(donor, copies);
    if (best && (best_apart > its_apart || (best_apart == its_apart && its_score <= best_score))) return;
    best = donor;
    best_score = its_score;
    best_apart = its_apart;
  };
  const size_t all = donors();
  if (kind == Kind::kDonor && all > kSample) {
    for (uint64_t draw = 0; draw < kSample; ++draw) {
      look(XXH3_64bits_withSeed(&extent.value, sizeof extent.value, ~draw) % all);
    }
    if (best) return best;
  }
  for (size_t donor = 0; donor < all; ++donor) look(donor);
  return best;
}

// Where the next copy that is missing goes; nothing if none is, or nobody has room.
std::optional<size_t> PlacementTable::next_donor(ExtentNumber extent, CopySet copies, const Usable& usable) const {
  if (copies.size() == CopySet::kMost || lasting_copies(copies) >= wanted()) return std::nullopt;
  bool at_donor = false;
  for (size_t i = 0; i < copies.size(); ++i) {
    at_donor = at_donor || (!is_local_disk(copies[i].donor) && !is_leaving(copies[i].donor));
  }
  const Kind first = protection_ == Protection::kSpill && at_donor ? Kind::kLocalDisk : Kind::kDonor;
  if (std::optional<size_t> donor = best_of(first, extent, copies, usable)) return donor;
  return best_of(first == Kind::kDonor ? Kind::kLocalDisk : Kind::kDonor, extent, copies, usable);
}

CopySet PlacementTable::place(ExtentNumber extent, const Usable& usable) {
  CopySet copies = copies_of(extent);
  const bool fresh = copies.empty();
  while (std::optional<size_t> donor = next_donor(extent, copies, usable)) {
    copies = copies.with(*donor, fresh);
    ++donors_[*donor].placed;
  }
  set(extent, copies);
  return copies;
}

void PlacementTable::complete(ExtentNumber extent, size_t donor) {
  set(extent, copies_of(extent).completed(donor));
}

void PlacementTable::drop(ExtentNumber extent, size_t donor) {
  const CopySet copies = copies_of(extent);
  if (!copies.has(donor)) return;
  set(extent, copies.without(donor));
  --donors_[donor].placed;
}

void PlacementTable::rename(ExtentNumber extent, size_t from, size_t to) {
  const CopySet copies = copies_of(extent);
  if (!copies.has(from)) return;
  set(extent, copies.renamed(from, to));
  --donors_[from].placed;
  ++donors_[to].placed;
}

void PlacementTable::recount() {
  for (size_t donor = 0; donor < donors(); ++donor) donors_[donor].placed.store(0);
  for (uint64_t extent = 0; extent < words_.size(); ++extent) {
    const CopySet copies = copies_of(ExtentNumber(extent));
    for (size_t i = 0; i < copies.size(); ++i) ++donors_[copies[i].donor].placed;
  }
}

}  // namespace hecaton
