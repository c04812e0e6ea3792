#include "contender.h"

#include <algorithm>
#include <deque>

#include "base/check.h"
#include "residency/eviction_policy.h"

namespace hecaton::sim {
namespace {

// The oldest arrival leaves; with `second_chances`, not before it was passed over once if it was seen in use (CLOCK).
class Queue final : public Contender {
 public:
  Queue(PageTable& table, bool second_chances) : table_(table), second_chances_(second_chances), used_(table.pages()) {}

  void on_arrival(uint32_t page, bool) override {
    pages_.push_back(page);
    used_[page] = false;
  }
  void on_visible_use(uint32_t page) override { used_[page] = true; }
  std::vector<PageRun> evict(uint64_t wanted) override {
    std::vector<uint32_t> victims;
    while (victims.size() < wanted && !pages_.empty()) {
      const uint32_t page = pages_.front();
      pages_.pop_front();
      if (second_chances_ && used_[page]) {
        used_[page] = false;
        pages_.push_back(page);
      } else {
        victims.push_back(page);
      }
    }
    return join_runs(std::move(victims), table_);
  }

 private:
  PageTable& table_;
  const bool second_chances_;
  std::deque<uint32_t> pages_;
  std::vector<bool> used_;
};

// What the pager did before: CLOCK in the order of addresses, in runs without gaps, every arrival a use.
class AddressClock final : public Contender {
 public:
  explicit AddressClock(PageTable& table) : table_(table), used_(table.pages()) {}

  void on_arrival(uint32_t page, bool) override { used_[page] = true; }
  void on_visible_use(uint32_t page) override { used_[page] = true; }
  std::vector<PageRun> evict(uint64_t) override {
    PageRun run = look_on();
    while (run.count == 0) run = look_on();
    return {run};
  }

 private:
  // The run that begins at the hand, and the hand goes past it and the page that ended it.
  PageRun look_on() {
    PageRun run{PageNumber(hand_), 0};
    while (run.end().value < table_.pages() && extent_of(run.end()) == extent_of(run.first) && may_leave(run.end())) {
      ++run.count;
    }
    hand_ = (run.end().value + 1) % table_.pages();
    return run;
  }
  bool may_leave(PageNumber page) {
    if (!table_.get(page).resident()) return false;
    const bool used = used_[page.value];
    used_[page.value] = false;
    return !used;
  }

  PageTable& table_;
  uint64_t hand_ = 0;
  std::vector<bool> used_;
};

// FIFO by extents: the one that began to fill first leaves whole.
class ExtentQueue final : public Contender {
 public:
  explicit ExtentQueue(PageTable& table) : table_(table), queued_(extents_in(table.pages())) {}

  void on_arrival(uint32_t page, bool) override {
    const uint64_t extent = extent_of(PageNumber(page)).value;
    if (!queued_[extent]) extents_.push_back(extent);
    queued_[extent] = true;
  }
  void on_visible_use(uint32_t) override {}
  std::vector<PageRun> evict(uint64_t) override {
    const uint64_t extent = extents_.front();
    extents_.pop_front();
    queued_[extent] = false;
    return {{PageNumber(extent * kPagesPerExtent),
             std::min<uint64_t>(table_.pages() - extent * kPagesPerExtent, kPagesPerExtent)}};
  }

 private:
  PageTable& table_;
  std::deque<uint64_t> extents_;
  std::vector<bool> queued_;
};

// S3-FIFO (Yang et al., SOSP 2023) page by page: a small queue of a tenth for what is new, a main queue with second
// chances, and a ghost list of what left the small one. Its frequency counts visible uses only.
class S3Fifo final : public Contender {
 public:
  S3Fifo(PageTable& table, uint64_t budget)
      : table_(table), small_target_(budget / 10), ghosts_(budget - budget / 10), pages_(table.pages()) {}

  void on_arrival(uint32_t page, bool) override {
    Page& p = pages_[page];
    const bool returns = p.ghost_since != 0 && left_ - p.ghost_since < ghosts_;
    p = Page{};
    (returns ? main_ : small_).push_back(page);
  }
  void on_visible_use(uint32_t page) override {
    if (pages_[page].uses < 3) ++pages_[page].uses;
  }
  std::vector<PageRun> evict(uint64_t wanted) override {
    std::vector<uint32_t> victims;
    while (victims.size() < wanted && !(small_.empty() && main_.empty())) {
      if (small_.size() > small_target_ || main_.empty()) {
        evict_small(victims);
      } else {
        evict_main(victims);
      }
    }
    return join_runs(std::move(victims), table_);
  }

 private:
  struct Page {
    uint64_t ghost_since = 0;
    uint8_t uses = 0;
  };
  void evict_small(std::vector<uint32_t>& victims) {
    const uint32_t page = small_.front();
    small_.pop_front();
    if (pages_[page].uses > 1) {
      pages_[page].uses = 0;
      main_.push_back(page);
      return;
    }
    pages_[page].ghost_since = ++left_;
    victims.push_back(page);
  }
  void evict_main(std::vector<uint32_t>& victims) {
    const uint32_t page = main_.front();
    main_.pop_front();
    if (pages_[page].uses > 0) {
      --pages_[page].uses;
      main_.push_back(page);
    } else {
      victims.push_back(page);
    }
  }

  PageTable& table_;
  const uint64_t small_target_, ghosts_;
  std::vector<Page> pages_;
  std::deque<uint32_t> small_, main_;
  uint64_t left_ = 0;
};

// The pager's own: it reads what it knows from the table.
class Ours final : public Contender {
 public:
  Ours(PageTable& table, uint64_t budget) : policy_(table, budget) {}
  void on_arrival(uint32_t, bool) override {}
  void on_visible_use(uint32_t) override {}
  std::vector<PageRun> evict(uint64_t) override {
    PageRun run = policy_.next_victims();
    HEC_CHECK(run.count > 0);
    return {run};
  }

 private:
  EvictionPolicy policy_;
};

}  // namespace

std::vector<PageRun> join_runs(std::vector<uint32_t> victims, const PageTable& table) {
  std::sort(victims.begin(), victims.end());
  std::vector<PageRun> runs;
  for (uint32_t victim : victims) {
    const PageNumber page(victim);
    bool joins = !runs.empty() && extent_of(runs.back().first) == extent_of(page);
    for (PageNumber gap = joins ? runs.back().end() : page; joins && gap < page; ++gap)
      joins = !table.get(gap).resident();
    if (joins) {
      runs.back().count = page.value + 1 - runs.back().first.value;
    } else {
      runs.push_back({page, 1});
    }
  }
  return runs;
}

const std::vector<std::string>& policy_names() {
  static const std::vector<std::string> names{"fifo", "clock", "address-clock", "s3fifo", "extent-fifo", "hecaton"};
  return names;
}

std::unique_ptr<Contender> make_contender(const std::string& name, PageTable& table, uint64_t budget) {
  if (name == "fifo") return std::make_unique<Queue>(table, false);
  if (name == "clock") return std::make_unique<Queue>(table, true);
  if (name == "address-clock") return std::make_unique<AddressClock>(table);
  if (name == "extent-fifo") return std::make_unique<ExtentQueue>(table);
  if (name == "s3fifo") return std::make_unique<S3Fifo>(table, budget);
  HEC_CHECK(name == "hecaton");
  return std::make_unique<Ours>(table, budget);
}

}  // namespace hecaton::sim
