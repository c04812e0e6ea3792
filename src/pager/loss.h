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
  LossLatch(OnLoss what, std::function<void(const LossReport&)> on_loss) : what_(what), on_loss_(std::move(on_loss)) {}

  // If the guest is to be stopped the first report counts: later ones are its consequences. If not, each is told.
  void report(const LossReport& loss);
  bool happened() const { return happened_.load(); }
  LossReport first() const;  // empty if nothing is lost

 private:
  const OnLoss what_;
  std::function<void(const LossReport&)> on_loss_;
  std::atomic<bool> happened_{false};
  Guarded<LossReport> first_;
};

// In rising order.
void add_lost_page(LossReport& loss, PageNumber page);

// "12 pages (48 KiB): 0x1000-0x2fff, ...": guest RAM offsets, the first few ranges.
std::string describe_ranges(const LossReport& loss);

}  // namespace hecaton
