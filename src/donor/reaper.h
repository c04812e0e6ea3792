// Unmaps the memory of ended regions on a thread of its own: that takes seconds for a big one, and the workers serve
// other VMs meanwhile. Also looks for regions whose grace is over, when told to.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.h"
#include "donor/region.h"

namespace hecaton::donor {

class Reaper {
 public:
  static Result<std::unique_ptr<Reaper>> start();
  ~Reaper();  // after what it was given is unmapped

  // Any thread.
  void bury(std::unique_ptr<Region> region);
  // Any thread: `sweep` is called at that time.
  void wake_at(int64_t at_ns);
  // Before the first wake_at(). With nothing: it is called no more once this returns.
  void sweep_with(std::function<void()> sweep);

 private:
  Reaper() = default;
  void run();
  bool has_work() const;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Region>> ended_;
  std::function<void()> sweep_;
  int64_t sweep_at_ns_ = INT64_MAX;
  bool sweeping_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace hecaton::donor
