#include "os/vcpu_neighbour.h"

namespace hecaton {

void VcpuNeighbour::look(int64_t now_ns) {
  const bool one_dominates = candidate_ != 0 && votes_ > faults_ / 2;  // three quarters of all faults
  std::optional<unsigned> place;
  if (one_dominates) place = last_processor_.of(static_cast<pid_t>(candidate_));
  if (place != seat_) {
    if (place && !run_only_on(*place)) place.reset();
    if (!place) run_anywhere();
    seat_ = place;
  }
  votes_ = 0;
  faults_ = 0;
  next_look_ns_ = now_ns + kLookEveryNs;
}

}  // namespace hecaton
