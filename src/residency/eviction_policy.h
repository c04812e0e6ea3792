// Which pages leave next. The pager sees no use of a page that is mapped: only that it comes, comes back, is written to
// for the first time, or that its prefetched window is used. And the kernel's price of an eviction is per call, so what
// leaves must leave in runs. So the policy weighs both, in microseconds.
//
//   arrival ──▶ fresh extents ──looked at after a share of the budget──▶ a run leaves, if one is worth its call
//                                                       │ pages are left
//                                                       ▼
//               seen extents  ──looked at in turn (round)──▶ ...
//
// Extents wait in two queues, as pages do in S3-FIFO (Yang et al., SOSP 2023): fresh ones for a small share of the
// budget, which moves with what comes back, the others for a whole turn. So a scan flows through the fresh queue.
//
// A page has a level: one up when it comes back within a budget of evictions, before the next look at its extent (a
// refault of the ghost list); one down when it comes back later, and for each look that it stays away. A page of level
// n leaves in every 2^n-th round of its extent, like a generation of a garbage collector: pages of one level leave
// together, and none stays for ever.
//
// A run may have gaps (pages that are not here), and takes along a page that should stay if sparing it would cost more
// than fetching it again. Within an extent the runs are the best that there are for the price of a page: the price
// rises while extents are passed over, and falls while runs are found.
//
// Pure. One thread, while others change the table. docs/adr/0003-eviction-policy.md has the figures.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/units.h"
#include "residency/page_table.h"

namespace hecaton {

class EvictionPolicy {
 public:
  static constexpr uint64_t kMaxRun = kPagesPerExtent;

  EvictionPolicy(PageTable& table, uint64_t budget_pages);

  // The next run to evict, within one extent: begins and ends with a page that may leave, and every page of it either
  // may leave (Clean or Dirty) or is a gap (Remote or Absent), and was not busy. Other threads may have changed that by
  // the time the caller gets to a page: then it passes over the page. Empty: nothing may leave now, ask again later.
  PageRun next_victims();

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Extent {
    uint32_t next = kNone;    // in its queue
    uint32_t queued_at = 0;   // pages evicted when it came
    uint32_t left_at = 0;     // pages evicted when its last run left
    uint8_t round = 0;        // looks
    uint8_t passed_over = 0;  // looks since its last run
    bool ghosts = false;      // its last run left recently enough for its returns to count
    bool left_from_fresh = false;
  };
  struct Queue {
    uint32_t first = kNone, last = kNone;
  };

 public:
  static constexpr size_t kBytesPerExtent = sizeof(Extent);

 private:
  void push(Queue& queue, uint32_t extent);
  uint32_t pop(Queue& queue);
  void queue_arrivals();
  bool begin_look();
  void end_look(bool impatient);
  void look_at_pages();
  bool any_resident(PageNumber first, uint64_t count) const;
  float worth_of(PageStatus status, const Extent& extent) const;
  void count_return(PageStatus status, const Extent& extent);
  void find_best_runs();
  PageRun next_run();

  PageTable& table_;
  const uint32_t budget_;
  std::vector<Extent> extents_;
  Queue fresh_, seen_;
  uint64_t queued_ = 0;
  uint32_t evicted_ = 0;  // pages, since the start: the policy's clock, which may wrap
  uint32_t fresh_share_;  // pages evicted for which a fresh extent waits
  float price_us_ = 4;    // what it is worth to evict a page
  // The extent that is being looked at, and its pages from `cursor_` on.
  uint32_t current_ = kNone;
  bool current_is_fresh_ = false;
  bool any_resident_ = false, any_may_leave_ = false, any_left_ = false;
  uint64_t cursor_ = 0, end_ = 0;
  std::array<float, kPagesPerExtent> gains_;        // of evicting each page
  std::array<float, kPagesPerExtent + 1> outside_;  // the best sum from a page on, if the page before stays
  std::array<float, kPagesPerExtent + 1> inside_;   // and if it leaves, and the run may go on
};

}  // namespace hecaton
