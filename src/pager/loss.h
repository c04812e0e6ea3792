// Memory is lost: said once, by whichever thread finds it first.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "base/guarded.h"
#include "pager/pager_state.h"
#include "store/donor_pool.h"

namespace hecaton {

class LossLatch {
 public:
  explicit LossLatch(std::function<void(const LossReport&)> on_loss) : on_loss_(std::move(on_loss)) {}

  // The first report counts; later ones are its consequences.
  void report(const LossReport& loss);
  bool happened() const { return happened_.load(); }
  LossReport first() const;  // empty if nothing is lost

 private:
  std::function<void(const LossReport&)> on_loss_;
  std::atomic<bool> happened_{false};
  Guarded<LossReport> first_;
};

// What goes with a donor: every page that only it has.
LossReport loss_of_donor(const PagerState& state, DonorPool& pool, size_t donor, const Error& error);

// "12 pages (48 KiB): 0x1000-0x2fff, ...": guest RAM offsets, the first few ranges.
std::string describe_ranges(const LossReport& loss);

}  // namespace hecaton
