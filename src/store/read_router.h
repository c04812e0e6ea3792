// Where each demand read of a fault thread goes: to the quicker copy; to another one when its donor fails, or when it
// keeps the answer for longer than it should (a hedge: both are asked, the first answer counts).
//
// A read is a slot of the fault server. It has a new id each time it is sent, so that an answer that comes after all
// (from a donor that was given up, or the slower of two) is known for what it is.
//
// Pure: no descriptor, no clock. One thread. Allocates nothing after construction.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/units.h"
#include "placement/copy_set.h"
#include "store/donor_states.h"

namespace hecaton {

class ReadRouter {
 public:
  // A copy that has not answered after this long, or this many times its usual time, gets a hedge.
  static constexpr int64_t kHedgeNs = 3'000'000;
  static constexpr int64_t kHedgeTimes = 8;

  ReadRouter(size_t slots, const DonorStates& states) : states_(states), latency_ns_(states.most()), routes_(slots) {
    under_way_.reserve(slots);
  }

  // The donor to ask for a page of an extent with these copies, `avoid` only if there is no other. Nothing: no complete
  // copy can be asked now.
  std::optional<size_t> choose(CopySet copies, std::optional<size_t> avoid = {});
  // The read of `slot` is sent there now; the id to send. A slot may be under way to two donors at once.
  uint64_t sent(uint32_t slot, size_t donor, int64_t now_ns);
  // An answer: the slot it is for, which is then under way no more; nothing if nobody waits for it.
  std::optional<uint32_t> answered(uint64_t id, size_t donor, int64_t now_ns);
  // The answer just taken was of no use: if another donor owes one still, the slot is under way again, to that one
  // alone. False: there is none.
  bool wait_for_other(uint32_t slot);
  // The donor that the slot was asked from first, or answered by.
  size_t last_donor(uint32_t slot) const { return routes_[slot].donors[0]; }

  // That donor answers no more. `orphan(slot)` for each slot that no other donor is asked for: it is not under way any
  // more, and is to be sent anew.
  template <typename Orphan>
  void give_up(size_t donor, Orphan orphan);
  // The slot is served in another way.
  void forget(uint32_t slot);

  // A slot that waits too long at one donor, and has not been hedged; once.
  std::optional<uint32_t> hedge_due(int64_t now_ns);
  bool any_under_way() const { return !under_way_.empty(); }

 private:
  struct Route {
    std::array<uint16_t, 2> donors{};
    uint8_t asked = 0;  // donors that owe the answer: 0 … 2
    bool hedge_looked = false;
    bool other_owes = false;  // donors[1], after an answer of donors[0]
    uint32_t generation = 0;
    int64_t sent_ns = 0;
  };
  static constexpr unsigned kSlotBits = 16;
  static constexpr uint64_t kExploreEvery = 64;
  int64_t latency_of(size_t donor) const { return latency_ns_[donor]; }
  void remove(uint32_t slot);

  const DonorStates& states_;
  std::vector<int64_t> latency_ns_;  // of each donor, a moving mean; 0: not known
  std::vector<Route> routes_;
  std::vector<uint32_t> under_way_;
  uint64_t choices_ = 0;
};

template <typename Orphan>
void ReadRouter::give_up(size_t donor, Orphan orphan) {
  for (size_t i = 0; i < under_way_.size();) {
    const uint32_t slot = under_way_[i];
    Route& route = routes_[slot];
    for (size_t d = 0; d < route.asked;) {
      if (route.donors[d] != donor) {
        ++d;
        continue;
      }
      route.donors[d] = route.donors[route.asked - 1u];
      --route.asked;
    }
    if (route.asked > 0) {
      ++i;
      continue;
    }
    route.donors[0] = static_cast<uint16_t>(donor);  // the one not to ask again at once
    remove(slot);
    orphan(slot);
    // What `orphan` sent anew is at the end of the list; this place has another slot now.
  }
}

}  // namespace hecaton
