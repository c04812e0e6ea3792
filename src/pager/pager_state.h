// What the pager's threads share: the table, the budget, the guest's memory, the extents and the counters.
//
// Safe from any thread. One PagerState lives as long as its pager. The fault threads are called shards here: each has
// the faults and the discards of its own stripes, and only it makes pages of them Fetching for a demand read or a fill.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/stripes.h"
#include "metrics/counter.h"
#include "metrics/histogram.h"
#include "pager/guest_memory.h"
#include "placement/placement_table.h"
#include "residency/budget.h"
#include "residency/page_table.h"
#include "store/page_seal.h"

namespace hecaton {

// When the last demand fault passed from stage to stage, monotonic nanoseconds; for benches, which know when the fault
// began and ended. Written by the fault threads, read by any; relaxed, because a reader that wants the figures of one
// fault has that fault alone under way, and its end comes after all of them.
struct FaultTrace {
  std::atomic<int64_t> read{0};       // the event was read
  std::atomic<int64_t> decided{0};    // the table knows that the page is being fetched
  std::atomic<int64_t> sent{0};       // the request is with the kernel
  std::atomic<int64_t> answered{0};   // the answer is here
  std::atomic<int64_t> installed{0};  // the page is in place, and its thread awake

  static void mark(std::atomic<int64_t>& stage, int64_t ns) { stage.store(ns, std::memory_order_relaxed); }
};

// All zeros is none counted: they may lie in memory that outlives the pager.
struct PagerCounters {
  Counter faults, faults_zero, faults_remote, faults_minor, faults_protect, faults_late, faults_stalled;
  Counter taken_back, evicted, written_back, zeroed, discarded, rejected_writes, refetched;
  Counter bad_seals;  // answers that are not what was sealed: a donor changed or rolled back a page
  // Of the pages that were sent to donors: those that went compressed, and the bytes that stood for all of them.
  Counter compressed, wire_bytes_written;
  // Pages fetched ahead; those of them that a stream's reader came by; faults that found their page still on its way;
  // how often prefetching paused because too much of it went to waste.
  Counter prefetched, prefetch_used, prefetch_late, prefetch_pauses;
  // Pages of which a donor had damaged or old bytes, and another good ones: they will be written anew. Demand reads
  // that another copy was asked for too, and those that went to another copy because their donor failed.
  Counter repaired, hedged, failed_over;
  Counter lost;                         // pages
  Histogram fault_us;                   // from reading the event to the wake
  std::atomic<uint64_t> resident_peak;  // pages; of the pagers before this one
  FaultTrace last_demand;
};

// Memory that is gone: why, and which pages.
struct LossReport {
  std::string reason;           // what happened, where
  std::vector<PageRun> ranges;  // of the region; empty if none of the guest's pages was there
  uint64_t pages = 0;
  std::optional<size_t> donor;  // that is gone; none if it lives and answered wrong
};

// What becomes of the guest when memory is lost.
enum class OnLoss : uint8_t {
  kStop,    // it is stopped
  kPoison,  // whoever touches a page that is lost gets a memory error; the rest goes on
};

class PagerState {
 public:
  // `copies`: of the extents of the region. `kept_counters`: those that outlive the pager.
  PagerState(std::span<PageTable::Word> words, uint64_t limit_pages, GuestMemory& guest_memory, PlacementTable& copies,
             Stripes the_stripes = {}, OnLoss what_on_loss = OnLoss::kStop, std::optional<SealState> the_seal = {},
             PagerCounters* kept_counters = nullptr)
      : stripes(the_stripes),
        on_loss(what_on_loss),
        seal(the_seal),
        placement(copies),
        table(words),
        budget(limit_pages, words.size()),
        memory(guest_memory),
        own_counters_(kept_counters ? nullptr : std::make_unique<PagerCounters>()),
        counters(kept_counters ? *kept_counters : *own_counters_),
        discards_(extents_in(words.size())),
        wasted_triggers_(the_stripes.shards()) {}

  const Stripes stripes;
  const OnLoss on_loss;
  const std::optional<SealState> seal;  // of a sealed VM
  PlacementTable& placement;
  PageTable table;
  Budget budget;
  GuestMemory& memory;

 private:
  std::unique_ptr<PagerCounters> own_counters_;

 public:
  PagerCounters& counters;
  std::atomic<int64_t> remote_pages{0};
  // A fault waits for free budget, at any shard: each raises it before its own try, and whoever frees some takes it and
  // wakes all of them. One that is woken in vain has raised it again by then.
  std::atomic<bool> fault_stalled{false};
  // Any thread gives budget back with this. True: fault threads wait for it, and are to be woken now.
  [[nodiscard]] bool give_budget(uint64_t pages) {
    budget.give(pages);
    return fault_stalled.load() && fault_stalled.exchange(false);
  }
  std::atomic<uint32_t> prefetch_paused{0};  // at so many shards
  std::atomic<bool> compressing{false};      // pages that leave now
  // Faults that were left to whoever is fetching their page, so far. A fault thread raises it and then looks at the
  // page once more; the fetching thread reads it before the page becomes Fetching, and again after the page is settled.
  // Both orders are sequentially consistent, so if the count has not changed no fault was left to it: one that comes
  // later sees the settled page. That saves a wake for nearly every page that is fetched ahead. (Had the page left and
  // become Fetching again in between, the wake that follows each eviction would have come by.)
  std::atomic<uint64_t> fetch_waits{0};

  // After a page that came from a donor became Clean: if its extent has lost all its copies meanwhile, the page is here
  // only. Whoever drops the last copy does so before he looks at the extent's pages for Clean ones: of the two, one
  // sees the other (both orders are sequentially consistent).
  void settle_clean(PageNumber page) {
    if (placement.copies_of(extent_of(page)).complete_copies() == 0) table.keep_here(page);
  }

  // A trigger left without having been touched: for the prefetcher of the shard that would have seen the touch.
  void count_waste(PageNumber trigger) { wasted_triggers_[stripes.shard_of(trigger)].fetch_add(1); }
  uint64_t take_waste(unsigned shard) {
    return wasted_triggers_[shard].load() > 0 ? wasted_triggers_[shard].exchange(0) : 0;
  }

  // Pages of this extent were discarded that donors may still hold; the evictor tells them.
  void mark_discards(PageNumber page) {
    discards_[extent_of(page).value].store(true);
    any_discards_.store(true);
  }
  bool take_any_discards() { return any_discards_.exchange(false); }
  bool any_discards() const { return any_discards_.load(); }
  bool take_discards(ExtentNumber extent) { return discards_[extent.value].exchange(false); }
  uint64_t extents() const { return discards_.size(); }

  static constexpr size_t kBytesPerExtent = sizeof(std::atomic<bool>);

 private:
  std::vector<std::atomic<bool>> discards_;
  std::vector<std::atomic<uint64_t>> wasted_triggers_;
  std::atomic<bool> any_discards_{false};
};

}  // namespace hecaton
