#include "donor/reaper.h"

#include "donor/thread.h"

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
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Reaper::bury(std::unique_ptr<Region> region) {
  {
    std::lock_guard lock(mutex_);
    ended_.push_back(std::move(region));
  }
  changed_.notify_one();
}

void Reaper::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stop_ || !ended_.empty(); });
    std::vector<std::unique_ptr<Region>> dead = std::move(ended_);
    ended_.clear();
    if (dead.empty()) return;  // stopped, and nothing is left
    lock.unlock();
    dead.clear();
    lock.lock();
  }
}

}  // namespace hecaton::donor
