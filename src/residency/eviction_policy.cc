#include "residency/eviction_policy.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace hecaton {
namespace {

// What a run costs beyond its pages: a call that protects, a call that punches.
constexpr float kCallUs = 29;
// A page in a run that is not here: it is passed over, and still walked by the kernel.
constexpr float kGapGainUs = -0.02f;
constexpr float kBlockedGainUs = -std::numeric_limits<float>::infinity();
// What is lost with a page, by its level: fetching it again, if it will be wanted, more than once at the highest.
constexpr float kWorthUs[PageTable::kMaxLevel + 1] = {0, 5, 17, 30};
constexpr float kReferencedUs = 17;
// Of price_us_: up for an extent that was passed over, down for one that a run left from.
constexpr float kPriceUp = 1.15f, kPriceDown = 0.9f, kLowestPriceUs = 0.15f, kHighestPriceUs = 64;
// By how many pages the fresh share moves for a page that comes back.
constexpr uint32_t kShareStep = 2;
// Looks of one call after which fresh extents raise the price as well, so that a call ends soon.
constexpr uint64_t kPatientLooks = 8;
// Looks, beside two at each extent, after which a call gives up. Long before, the price has reached its height, where
// any page leaves that is in nobody's hands.
constexpr uint64_t kMostLooks = 64;

}  // namespace

EvictionPolicy::EvictionPolicy(PageTable& table, uint64_t budget_pages)
    : table_(table),
      budget_(static_cast<uint32_t>(std::min<uint64_t>(budget_pages, UINT32_MAX / 4))),
      extents_(extents_in(table.pages())),
      fresh_share_(budget_ / 10) {}

void EvictionPolicy::push(Queue& queue, uint32_t extent) {
  extents_[extent].next = kNone;
  (queue.first == kNone ? queue.first : extents_[queue.last].next) = extent;
  queue.last = extent;
  ++queued_;
}

uint32_t EvictionPolicy::pop(Queue& queue) {
  --queued_;
  return std::exchange(queue.first, extents_[queue.first].next);
}

void EvictionPolicy::queue_arrivals() {
  uint32_t oldest = kNone;  // the table tells the newest first
  table_.take_arrivals([&](ExtentNumber number) {
    Extent& extent = extents_[number.value];
    extent.next = std::exchange(oldest, static_cast<uint32_t>(number.value));
    extent.queued_at = evicted_;
    extent.ghosts = evicted_ - extent.left_at < budget_;
  });
  while (oldest != kNone) push(fresh_, std::exchange(oldest, extents_[oldest].next));
}

PageRun EvictionPolicy::next_victims() {
  queue_arrivals();
  const uint64_t most_looks = kMostLooks + 2 * queued_;
  for (uint64_t looks = 0, in_vain = 0; looks < most_looks; ++looks) {
    if (current_ == kNone && !begin_look()) return {};
    if (PageRun run = next_run(); run.count > 0) return run;
    if (any_may_leave_) ++in_vain;
    end_look(in_vain > kPatientLooks);
  }
  return {};
}

bool EvictionPolicy::begin_look() {
  const bool due = fresh_.first != kNone && evicted_ - extents_[fresh_.first].queued_at >= fresh_share_;
  current_is_fresh_ = due || seen_.first == kNone;
  Queue& queue = current_is_fresh_ ? fresh_ : seen_;
  if (queue.first == kNone) return false;
  current_ = pop(queue);
  // Before the look: an arrival that the look misses is told anew.
  table_.forget_arrivals(ExtentNumber(current_));
  look_at_pages();
  find_best_runs();
  return true;
}

bool EvictionPolicy::any_resident(PageNumber first, uint64_t count) const {
  for (uint64_t i = 0; i < count; ++i) {
    if (table_.get(first + i).resident()) return true;
  }
  return false;
}

void EvictionPolicy::end_look(bool impatient) {
  Extent& extent = extents_[current_];
  if (any_left_) {
    price_us_ *= kPriceDown;
    extent.passed_over = 0;
    extent.left_at = evicted_;
    extent.left_from_fresh = current_is_fresh_;
  } else if (any_may_leave_ && (impatient || !current_is_fresh_)) {
    price_us_ *= kPriceUp;
    extent.passed_over = static_cast<uint8_t>(std::min(extent.passed_over + 1, 16));
  }
  price_us_ = std::clamp(price_us_, kLowestPriceUs, kHighestPriceUs);
  if (any_resident_ && table_.keep_arrivals(ExtentNumber(current_))) push(seen_, current_);
  current_ = kNone;
}

void EvictionPolicy::look_at_pages() {
  Extent& extent = extents_[current_];
  const PageNumber first(uint64_t{current_} * kPagesPerExtent);
  // Who is passed over gets twice the price, so that a few pages in many extents do not stay for ever.
  const float price = std::min(price_us_ * static_cast<float>(1u << extent.passed_over), kHighestPriceUs);
  cursor_ = 0;
  end_ = std::min<uint64_t>(table_.pages() - first.value, kPagesPerExtent);
  any_may_leave_ = any_left_ = false;
  any_resident_ = any_resident(first, end_);
  if (!any_resident_) {
    end_ = 0;  // all left; that is no reason to count a look that they stayed away
    return;
  }
  ++extent.round;
  for (uint64_t i = 0; i < end_; ++i) {
    const PageStatus status = table_.look(first + i, extent.ghosts);
    if (status.busy || status.state == PageState::kFetching || status.state == PageState::kFilling ||
        status.state == PageState::kLeaving) {
      gains_[i] = kBlockedGainUs;
    } else if (!status.resident()) {
      gains_[i] = kGapGainUs;
    } else {
      any_may_leave_ = true;
      if (status.ghost) count_return(status, extent);
      gains_[i] = price - worth_of(status, extent);
    }
  }
  extent.ghosts = true;
}

float EvictionPolicy::worth_of(PageStatus status, const Extent& extent) const {
  if (status.prefetched) return 0;  // only fetched ahead so far, whatever it was before
  const bool last_round = (extent.round & ((1u << status.level) - 1)) == 0;
  return (last_round ? 0 : kWorthUs[status.level]) + (status.referenced ? kReferencedUs : 0);
}

// A page came back soon. One that was new when it left shows that new pages leave too early; one that had come back
// before shows that they leave too late, at the cost of the others.
void EvictionPolicy::count_return(PageStatus status, const Extent& extent) {
  if (status.level > 1) {
    fresh_share_ = std::max(fresh_share_ - std::min(fresh_share_, kShareStep), budget_ / 10);
  } else if (extent.left_from_fresh) {
    fresh_share_ = std::min(fresh_share_ + kShareStep, budget_ - budget_ / 10);
  }
}

// From the last page to the first: the best sum of gains, less a call for each run that begins.
void EvictionPolicy::find_best_runs() {
  outside_[end_] = inside_[end_] = 0;
  for (uint64_t i = end_; i-- > 0;) {
    const float leaves = gains_[i] + inside_[i + 1];
    outside_[i] = std::max(outside_[i + 1], leaves - kCallUs);
    inside_[i] = std::max(outside_[i], leaves);
  }
}

PageRun EvictionPolicy::next_run() {
  auto leaves = [this](uint64_t i) { return gains_[i] + inside_[i + 1]; };
  while (cursor_ < end_ && leaves(cursor_) - kCallUs <= outside_[cursor_ + 1]) ++cursor_;
  PageRun run{PageNumber(uint64_t{current_} * kPagesPerExtent + cursor_), 0};
  while (cursor_ < end_ && leaves(cursor_) > outside_[cursor_]) {
    if (gains_[cursor_] != kGapGainUs) ++evicted_;
    ++run.count;
    ++cursor_;
  }
  any_left_ = any_left_ || run.count > 0;
  return run;
}

}  // namespace hecaton
