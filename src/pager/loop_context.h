// What all of a pager's threads need.
#pragma once

#include <atomic>

#include "base/clock.h"
#include "pager/loss.h"
#include "pager/pager_state.h"
#include "store/compression_choice.h"
#include "store/donor_pool.h"
#include "store/silence_watch.h"

namespace hecaton {

struct LoopContext {
  PagerState& state;
  DonorPool& pool;
  LossLatch& loss;
  std::atomic<bool>& stop;
  Compression compression;
  uint64_t repair_bytes_per_second;
  int64_t (*now)() = monotonic_ns;  // a simulation has a clock of its own

  bool ended() const { return stop.load() || loss.happened(); }
  // After reading what has arrived.
  void check_silence(SilenceWatch& watch) const {
    watch.check(
        now(), [this](size_t donor) { pool.silent(donor); }, [this](size_t donor) { pool.dead(donor); });
  }
};

}  // namespace hecaton
