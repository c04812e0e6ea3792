// The policies that the simulator compares with the pager's own. All are told the same: what a pager can see.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/units.h"
#include "residency/page_table.h"

namespace hecaton::sim {

class Contender {
 public:
  virtual ~Contender() = default;
  // A page came: asked for by a fault, or fetched ahead.
  virtual void on_arrival(uint32_t page, bool demanded) = 0;
  // A use of a resident page that raised an event: the first write to a clean page, the first touch of a trigger.
  virtual void on_visible_use(uint32_t page) = 0;
  // Pages to evict now, `wanted` or more: as runs within an extent, whose resident pages all leave.
  virtual std::vector<PageRun> evict(uint64_t wanted) = 0;
};

// fifo, clock, s3fifo: by pages; extent-fifo: whole extents; address-clock: what the pager did before; hecaton: its
// own.
const std::vector<std::string>& policy_names();
std::unique_ptr<Contender> make_contender(const std::string& name, PageTable& table, uint64_t budget);

// Single pages as runs: neighbours of one extent with nothing but absent or remote pages in between are joined.
std::vector<PageRun> join_runs(std::vector<uint32_t> victims, const PageTable& table);

}  // namespace hecaton::sim
