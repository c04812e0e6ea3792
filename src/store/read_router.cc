#include "store/read_router.h"

#include <algorithm>

namespace hecaton {

const char* name_of(DonorState state) {
  switch (state) {
    case DonorState::kLive:
      return "live";
    case DonorState::kSilent:
      return "silent";
    case DonorState::kCut:
      return "cut off";
    case DonorState::kLost:
      return "lost";
    case DonorState::kGone:
      return "gone";
  }
  return "impossible";
}

std::optional<size_t> ReadRouter::choose(CopySet copies, std::optional<size_t> avoid) {
  std::optional<size_t> best;
  int best_rank = -1;
  const bool explore = copies.size() > 1 && ++choices_ % kExploreEvery == 0;
  for (size_t i = 0; i < copies.size(); ++i) {
    const CopySet::Copy copy = copies[i];
    if (!copy.complete || !states_.connected(copy.donor)) continue;
    // The one to avoid has just failed to give the page: even a silent one is more likely to.
    const int rank = (copy.donor != avoid ? 2 : 0) + (states_.live(copy.donor) ? 1 : 0);
    if (rank < best_rank) continue;
    // Of equals the quicker one; now and then the other, to learn how quick it is by now.
    if (rank == best_rank && (latency_of(copy.donor) >= latency_of(*best)) != explore) continue;
    best = copy.donor;
    best_rank = rank;
  }
  return best;
}

uint64_t ReadRouter::sent(uint32_t slot, size_t donor, int64_t now_ns) {
  Route& route = routes_[slot];
  if (route.asked == 0) {
    ++route.generation;
    route.sent_ns = now_ns;
    route.hedge_looked = false;
    route.other_owes = false;
    under_way_.push_back(slot);
  }
  HEC_CHECK(route.asked < route.donors.size());
  route.donors[route.asked++] = static_cast<uint16_t>(donor);
  return static_cast<uint64_t>(route.generation) << kSlotBits | slot;
}

std::optional<uint32_t> ReadRouter::answered(uint64_t id, size_t donor, int64_t now_ns) {
  const uint32_t slot = static_cast<uint32_t>(id & ((1u << kSlotBits) - 1));
  if (slot >= routes_.size()) return std::nullopt;
  Route& route = routes_[slot];
  const bool asked =
      std::find(route.donors.begin(), route.donors.begin() + route.asked, donor) != route.donors.begin() + route.asked;
  if (!asked || static_cast<uint32_t>(id >> kSlotBits) != route.generation) return std::nullopt;
  const int64_t took = std::max<int64_t>(1, now_ns - route.sent_ns);
  int64_t& mean = latency_ns_[donor];
  mean = mean == 0 ? took : mean + (took - mean) / 8;
  route.other_owes = route.asked == 2;
  if (route.donors[0] != donor) std::swap(route.donors[0], route.donors[1]);
  route.asked = 0;
  remove(slot);
  return slot;
}

bool ReadRouter::wait_for_other(uint32_t slot) {
  Route& route = routes_[slot];
  if (!route.other_owes) return false;
  route.other_owes = false;
  route.donors[0] = route.donors[1];
  route.asked = 1;
  route.hedge_looked = true;  // the hedge is what was of no use
  under_way_.push_back(slot);
  return true;
}

void ReadRouter::forget(uint32_t slot) {
  if (routes_[slot].asked == 0) return;
  routes_[slot].asked = 0;
  remove(slot);
}

void ReadRouter::remove(uint32_t slot) {
  auto place = std::find(under_way_.begin(), under_way_.end(), slot);
  HEC_CHECK(place != under_way_.end());
  *place = under_way_.back();
  under_way_.pop_back();
}

std::optional<uint32_t> ReadRouter::hedge_due(int64_t now_ns) {
  for (uint32_t slot : under_way_) {
    Route& route = routes_[slot];
    if (route.asked != 1 || route.hedge_looked) continue;
    const int64_t patience = std::max(kHedgeNs, kHedgeTimes * latency_of(route.donors[0]));
    if (now_ns - route.sent_ns < patience) continue;
    route.hedge_looked = true;
    return slot;
  }
  return std::nullopt;
}

}  // namespace hecaton
