#include "donor/reaper.h"

#include <chrono>

#include "base/clock.h"
#include "os/thread.h"

namespace hecaton::donor {

Result<std::unique_ptr<Reaper>> Reaper::start() {
  std::unique_ptr<Reaper> reaper(new Reaper);
  reaper->thread_ = HEC_TRY(start_thread("donor-reaper", [self = reaper.get()] { self->run(); }));
  return reaper;
}

Reaper::~Reaper() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Reaper::bury(std::unique_ptr<Region> region) {
  {
    std::lock_guard lock(mutex_);
    ended_.push_back(std::move(region));
  }
  changed_.notify_all();
}

void Reaper::wake_at(int64_t at_ns) {
  {
    std::lock_guard lock(mutex_);
    if (at_ns >= sweep_at_ns_) return;
    sweep_at_ns_ = at_ns;
  }
  changed_.notify_all();
}

void Reaper::sweep_with(std::function<void()> sweep) {
  std::unique_lock lock(mutex_);
  sweep_ = std::move(sweep);
  changed_.wait(lock, [&] { return !sweeping_; });
}

bool Reaper::has_work() const {
  return stop_ || !ended_.empty() || monotonic_ns() >= sweep_at_ns_;
}

void Reaper::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    while (!has_work()) {
      if (sweep_at_ns_ == INT64_MAX) {
        changed_.wait(lock);
      } else {
        changed_.wait_for(lock, std::chrono::nanoseconds(sweep_at_ns_ - monotonic_ns()));
      }
    }
    std::vector<std::unique_ptr<Region>> dead = std::move(ended_);
    ended_.clear();
    std::function<void()> sweep;
    if (monotonic_ns() >= sweep_at_ns_) {
      sweep_at_ns_ = INT64_MAX;
      sweep = sweep_;
    }
    if (dead.empty() && !sweep && stop_) return;
    sweeping_ = sweep != nullptr;
    lock.unlock();
    dead.clear();
    if (sweep) sweep();
    lock.lock();
    sweeping_ = false;
    changed_.notify_all();
  }
}

}  // namespace hecaton::donor
