#include "pager/paging_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "store/page_codec.h"

namespace hecaton {
namespace {

constexpr size_t kMaxOldEvents = 64;
// Of preemptions within preemptions.
constexpr int kMaxDepth = 2;

std::optional<SealState> seal_in(std::vector<SealRecord>& memory, uint64_t pages) {
  if (memory.empty()) return std::nullopt;
  const SealState state = SealState::at(reinterpret_cast<std::byte*>(memory.data()), pages);
  state.make_key();
  return state;
}

}  // namespace

PagingModel::PagingModel(const Options& options)
    : GuestModel({options.seed, options.pages, options.processors, options.protected_map,
                  Stripes(options.shards, options.stripe_pages)}),
      options_(options),
      words_(options.pages),
      copies_(extents_in(options.pages)),
      placement_(copies_, Protection::kNone, 1),
      seal_memory_(options.seal ? SealState::bytes_for(options.pages) / sizeof(SealRecord) + 1 : 0),
      state_(words_, options.budget, *this, placement_, Stripes(options.shards, options.stripe_pages), OnLoss::kStop,
             seal_in(seal_memory_, options.pages)),
      seal_(PageSeal::of(state_.seal)),
      evictor_(state_, *this, options.compression),
      prefetcher_(state_, *this) {
  placement_.add_donor({1, extents_in(options.pages)});
  const Prefetcher prefetcher(
      {.region_pages = options.pages, .window_pages = 16, .ahead_pages = options.budget / options.shards});
  for (unsigned shard = 0; shard < options.shards; ++shard) {
    shards_.push_back(Shard{FaultServer(state_, prefetcher, *this, shard), events_[shard], {}, {}});
  }
}

// Whether what a donor stores is this page.
bool PagingModel::stands_for(std::span<const std::byte> stored, PageNumber page, uint32_t version,
                             const std::byte* bytes) {
  std::array<std::byte, kPageBytes> opened, unpacked;
  if (seal_) {
    if (!seal_->open(page, version, stored, opened.data())) return false;
    stored = std::span(opened).first(stored.size());
  }
  if (stored.size() < kPageBytes) {
    if (!decompress_page(stored, unpacked)) return false;
    stored = unpacked;
  }
  return std::memcmp(stored.data(), bytes, kPageBytes) == 0;
}

std::string PagingModel::fault_of_copies(PageNumber page, uint32_t version, const std::byte* bytes) {
  auto stored = donor_.find(page.value);
  if (stored == donor_.end() || stored->second.version != version ||
      !stands_for(stored->second.bytes, page, version, bytes)) {
    return "the donor does not have these bytes";
  }
  return {};
}

void PagingModel::discard_some() {
  PageRun run{PageNumber(random(options_.pages)), 1 + random(8)};
  if (!prefetch_.empty() && random(2) == 0) run.first = prefetch_.front().pages.front();  // one that is on its way
  discard(run);
}

// ---------------------------------------------------------------- who runs next

void PagingModel::count_overlap(const Shard& shard) {
  auto other_runs = [&](const Shard& other) { return &other != &shard && other.running; };
  shards_overlapped_ += std::any_of(shards_.begin(), shards_.end(), other_runs);
}

void PagingModel::discard_for_guest(Shard& shard) {
  PageRun run = shard.events.removals.front();
  shard.events.removals.pop_front();
  discard_begins();
  shard.server.discard(run);
  discard_ends();
}

void PagingModel::deliver_event(Shard& shard) {
  Running running(shard.running);
  if (!shard.events.removals.empty()) return discard_for_guest(shard);
  if (shard.events.faults.empty()) return;
  count_overlap(shard);
  for (; !shard.streams.empty(); shard.streams.pop_front()) shard.server.adopt(shard.streams.front());
  Fault fault = shard.events.faults.front();
  shard.events.faults.pop_front();
  if (old_events_.size() < kMaxOldEvents)
    old_events_.push_back(fault);
  else
    old_events_[random(kMaxOldEvents)] = fault;
  fault.since_ns = INT64_MAX;  // never patient enough to call a discarded page lost
  shard.server.handle(fault);
}

// Invariant 6: an event that comes late, or twice, changes no byte.
void PagingModel::repeat_old_event() {
  if (old_events_.empty()) return;
  Fault fault = old_events_[random(old_events_.size())];
  fault.since_ns = INT64_MAX;
  Shard& shard = shard_of(fault.page);
  Running running(shard.running);
  shard.server.handle(fault);
}

void PagingModel::evict() {
  Running running(in_evictor_);
  evictor_.start();
  if (random(8) == 0) evictor_.send_discards();
}

// Inside a kernel call of one of the pager's threads the guest runs, and so may the other threads.
void PagingModel::preempt() {
  if (depth_ >= kMaxDepth || random(4) != 0) return;
  ++depth_;
  // Several steps of each, so that whole stories fit into one call: a fault, its answer, and the write after it.
  for (uint64_t n = random(12); n > 0; --n) {
    switch (random(8)) {
      case 0:
      case 1: {
        Processor& processor = processors_[random(processors_.size())];
        if (!processor.waiting) run_processor(processor);
        break;
      }
      case 2:
      case 3:
        if (Shard& shard = any_shard(); !shard.running) deliver_event(shard);
        break;
      case 4:
        if (Shard& shard = any_shard(); !shard.running) deliver(shard.demand);
        break;
      case 5:
        if (!in_evictor_) evict();
        break;
      case 6:
        if (!in_evictor_) deliver(write_back_);
        break;
      case 7:
        if (!in_prefetcher_) deliver(prefetch_);
        break;
    }
  }
  --depth_;
}

void PagingModel::step() {
  switch (random(12)) {
    case 0:
    case 1:
    case 2: {
      Processor& processor = processors_[random(processors_.size())];
      if (!processor.waiting) run_processor(processor);
      break;
    }
    case 3:
    case 4:
      deliver_event(any_shard());
      break;
    case 5:
    case 6:
      deliver(any_shard().demand);
      break;
    case 7:
      evict();
      break;
    case 8:
      deliver(write_back_);
      break;
    case 9:
      deliver(prefetch_);
      break;
    case 10: {
      Shard& shard = any_shard();
      Running running(shard.running);
      shard.server.retry_deferred();
      break;
    }
    case 11:
      if (random(4) == 0) repeat_old_event();
      if (options_.discards && random(4) == 0) discard_some();
      start_prefetch();
      break;
  }
}

void PagingModel::start_prefetch() {
  Running running(in_prefetcher_);
  if (prefetcher_.waiting()) {
    prefetcher_.resume();
  } else if (!windows_.empty()) {
    const PrefetchWindow window = windows_.front();
    windows_.pop_front();
    strides_prefetched_.insert(window.stride);
    prefetcher_.start(window);
  }
}

void PagingModel::come_to_rest() {
  depth_ = kMaxDepth;  // no preemption
  for (int n = 0; n < 1000 && waiting_processor() && !lost(); ++n) {
    for (Shard& shard : shards_) {
      deliver_event(shard);
      deliver(shard.demand);
    }
    deliver(prefetch_);
    deliver(write_back_);
    if (state_.fault_stalled.load()) evict();
    for (Shard& shard : shards_) {
      Running running(shard.running);
      shard.server.retry_deferred();
    }
  }
  depth_ = 0;
  const Processor* left = waiting_processor();
  if (left && !lost()) breach("a processor is never woken", left->page);
}

void PagingModel::settle_and_verify() {
  come_to_rest();
  for (uint64_t page = 0; page < options_.pages && breach().empty() && !lost(); ++page) {
    Processor reader;
    reader.page = PageNumber(page);
    processors_.push_back(reader);
    access(processors_.back());
    uint64_t patience = 200'000;
    while (processors_.back().waiting && breach().empty() && !lost() && --patience > 0) step();
    if (patience == 0) breach("a processor is never woken", PageNumber(page));
    processors_.pop_back();
  }
}

}  // namespace hecaton
