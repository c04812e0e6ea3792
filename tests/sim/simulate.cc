#include "simulate.h"

#include <algorithm>
#include <queue>
#include <vector>

#include "base/check.h"
#include "contender.h"
#include "residency/budget.h"
#include "residency/prefetcher.h"

namespace hecaton::sim {
namespace {

class Machine {
 public:
  Machine(const Trace& trace, const std::string& policy, const Costs& costs)
      : costs_(costs),
        words_(trace.pages),
        table_(words_),
        budget_(trace.budget, trace.pages),
        prefetcher_({.region_pages = trace.pages,
                     .window_pages = trace.prefetch ? std::min(kWindow, budget_.reserve()) : 0,
                     .adaptive = true,
                     .ahead_pages = budget_.limit() / 8}),
        policy_(make_contender(policy, table_, trace.budget)) {}

  void access(Access access) {
    const PageNumber page(access.page);
    const PageStatus status = table_.get(page);
    ++seen_.accesses;
    if (!status.resident()) {
      miss(page, access.write, status.state == PageState::kRemote);
    } else if (status.trigger) {
      touch_trigger(page, access.write);
    } else if (access.write && status.state == PageState::kClean) {
      ++seen_.protect_faults;
      seen_.total_us += costs_.protect_fault;
      use(page, true);
    }
    if (budget_.eviction_due()) evict();
  }
  void start_counting() { seen_ = Outcome{}; }
  const Outcome& outcome() const { return seen_; }

 private:
  static constexpr uint64_t kWindow = 64;

  void miss(PageNumber page, bool write, bool remote) {
    ++seen_.misses;
    seen_.total_us += costs_.miss;
    HEC_CHECK(budget_.try_take(1));
    HEC_CHECK(remote ? table_.begin_fetch(page) : table_.begin_fill(page));
    table_.finish_fetch(page, write || !remote ? PageTable::Arrival::kDirty : PageTable::Arrival::kClean);
    policy_->on_arrival(static_cast<uint32_t>(page.value), true);
    if (!remote) return;
    prefetcher_.on_fault(page);
    fetch_ahead();
  }
  void use(PageNumber page, bool write) {
    HEC_CHECK(write ? table_.begin_dirty(page) : table_.begin_map(page));
    table_.release(page);
    policy_->on_visible_use(static_cast<uint32_t>(page.value));
  }
  void touch_trigger(PageNumber page, bool write) {
    seen_.total_us += costs_.protect_fault;
    use(page, write);
    if (wasted_ > 0) prefetcher_.on_waste(std::exchange(wasted_, 0));
    if (auto used = prefetcher_.on_trigger(page)) {
      for (uint64_t i = 0; i < used->count; ++i) table_.take_prefetched(used->page(i));
    }
    fetch_ahead();
  }
  void fetch_ahead() {
    while (std::optional<PrefetchWindow> window = prefetcher_.next_window()) {
      bool trigger_due = true;
      for (uint64_t i = 0; i < window->count; ++i) {
        const bool trigger = trigger_due && i >= window->trigger;
        if (fetch_ahead(window->page(i), trigger) && trigger) trigger_due = false;
      }
    }
  }
  bool fetch_ahead(PageNumber page, bool trigger) {
    if (table_.get(page).state != PageState::kRemote || !budget_.try_take_for_prefetch(1)) return false;
    HEC_CHECK(table_.begin_fetch(page));
    table_.finish_fetch(page, trigger ? PageTable::Arrival::kPrefetchedTrigger : PageTable::Arrival::kPrefetched);
    policy_->on_arrival(static_cast<uint32_t>(page.value), false);
    ++seen_.prefetched;
    seen_.total_us += costs_.prefetched_page;
    return true;
  }
  void evict() {
    while (!budget_.eviction_done()) {
      for (PageRun run : policy_->evict(budget_.reserve() / 2)) evict_run(run);
    }
  }
  void evict_run(PageRun run) {
    uint64_t pages = 0, sent = 0;
    for (PageNumber page = run.first; page < run.end(); ++page) {
      std::optional<PageTable::Leave> leave = table_.begin_leave(page);
      if (!leave) continue;
      table_.release(page);
      HEC_CHECK(table_.commit_remote(page, leave->version));
      table_.release(page);
      ++pages;
      sent += leave->dirty;
      wasted_ += leave->trigger;
    }
    HEC_CHECK(pages > 0);
    budget_.give(pages);
    double us = costs_.punch_call + costs_.punch_page * static_cast<double>(pages);
    if (sent > 0) us += costs_.protect_call + costs_.protect_page * static_cast<double>(run.count);
    us += costs_.sent_page * static_cast<double>(sent);
    seen_.evicted += pages;
    seen_.sent += sent;
    ++seen_.runs;
    seen_.evict_us += us;
    seen_.total_us += us;
  }

  const Costs costs_;
  std::vector<PageTable::Word> words_;
  PageTable table_;
  Budget budget_;
  Prefetcher prefetcher_;
  std::unique_ptr<Contender> policy_;
  Outcome seen_;
  uint64_t wasted_ = 0;
};

}  // namespace

Outcome simulate(const Trace& trace, const std::string& policy, const Costs& costs) {
  Machine machine(trace, policy, costs);
  for (size_t i = 0; i < trace.accesses.size(); ++i) {
    if (i == trace.warm_up) machine.start_counting();
    machine.access(trace.accesses[i]);
  }
  return machine.outcome();
}

Outcome simulate_optimum(const Trace& trace) {
  const size_t count = trace.accesses.size();
  std::vector<size_t> next_use(count), seen(trace.pages, count);
  for (size_t i = count; i-- > 0;) {
    next_use[i] = std::exchange(seen[trace.accesses[i].page], i);
  }
  Outcome outcome;
  std::vector<bool> resident(trace.pages);
  std::vector<size_t> next_of(trace.pages);
  std::priority_queue<std::pair<size_t, uint32_t>> latest;  // entries that next_of contradicts are stale
  uint64_t held = 0;
  for (size_t i = 0; i < count; ++i) {
    if (i == trace.warm_up) outcome = Outcome{};
    const uint32_t page = trace.accesses[i].page;
    ++outcome.accesses;
    if (!resident[page]) {
      ++outcome.misses;
      while (held == trace.budget) {
        const auto [next, victim] = latest.top();
        latest.pop();
        if (!resident[victim] || next_of[victim] != next) continue;
        resident[victim] = false;
        --held;
      }
      resident[page] = true;
      ++held;
    }
    next_of[page] = next_use[i];
    latest.emplace(next_use[i], page);
  }
  return outcome;
}

}  // namespace hecaton::sim
