// Unmaps the memory of ended regions on a thread of its own: that takes seconds for a big one, and the workers serve
// other VMs meanwhile.
#pragma once

#include <condition_variable>
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

 private:
  Reaper() = default;
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Region>> ended_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace hecaton::donor
