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
      seal_state_(seal_in(seal_memory_, options.pages)),
      seal_(PageSeal::of(seal_state_)),
      words_before_(options.pages) {
  placement_.add_donor({1, extents_in(options.pages)});
  for (unsigned shard = 0; shard < options.shards; ++shard) shards_.push_back(Shard{{}, events_[shard], {}, {}});
  begin_life();
}

PagingModel::Logic::Logic(PagingModel& model)
    : state(model.words_, model.options_.budget, model, model.placement_,
            Stripes(model.options_.shards, model.options_.stripe_pages), OnLoss::kStop, model.seal_state_,
            &model.counters_),
      evictor(state, model, model.options_.compression),
      prefetcher(state, model) {}

void PagingModel::begin_life() {
  logic_ = std::make_unique<Logic>(*this);
  const Prefetcher prefetcher(
      {.region_pages = options_.pages, .window_pages = 16, .ahead_pages = options_.budget / options_.shards});
  for (unsigned shard = 0; shard < options_.shards; ++shard) {
    shards_[shard].server = std::make_unique<FaultServer>(state(), prefetcher, *this, shard);
  }
}

// ---------------------------------------------------------------- death

void PagingModel::may_die() {
  if (!mortal_) return keep_words();
  ++points_;
  const bool due =
      points_ == options_.die_at ||
      (options_.die_at_random > 0 && random(1'000'000) < static_cast<uint64_t>(options_.die_at_random * 1e6));
  if (due) {
    mix_words();
    throw Death();
  }
  keep_words();
}

void PagingModel::keep_words() {
  for (size_t i = 0; i < words_.size(); ++i) words_before_[i] = words_[i].load();
}

// Between two points the pager changes several words, and may die between any two of them.
void PagingModel::mix_words() {
  for (size_t i = 0; i < words_.size(); ++i) {
    if (random(2) == 0) words_[i].store(words_before_[i]);
  }
}

void PagingModel::die_and_recover() {
  ++deaths_;
  keep_words();
  depth_ = 0;
  no_discard_is_served();
  in_evictor_ = in_prefetcher_ = evictor_asleep_ = false;
  for (Shard& shard : shards_) {
    shard.asleep = false;
    shard.demand.clear();
    shard.streams.clear();
    shard.running = false;
  }
  windows_.clear();
  prefetch_.clear();
  // The donor got some of what was sent; with the fence, nothing more from now on.
  while (!write_back_.empty() && random(2) == 0) {
    apply(write_back_.front());
    write_back_.pop_front();
  }
  if (!options_.fence) late_.insert(late_.end(), write_back_.begin(), write_back_.end());
  write_back_.clear();
  begin_life();
  recovering_ = true;
  recover(state());
  recovering_ = false;
  check_budget();
}

// Runs a step of the pager's life, and what follows if it dies in it.
template <typename Step>
void PagingModel::survive(Step step) {
  try {
    return step();
  } catch (const Death&) {
  }
  for (;;) {
    try {
      return die_and_recover();
    } catch (const Death&) {
    }
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
      (bytes && !stands_for(stored->second.bytes, page, version, bytes))) {
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
  shard.server->discard(run);
  discard_ends();
}

void PagingModel::deliver_event(Shard& shard) {
  Running running(shard.running);
  shard.asleep = shard.asleep && shard.events.removals.empty() && shard.events.faults.empty();
  if (!shard.events.removals.empty()) return discard_for_guest(shard);
  if (shard.events.faults.empty()) return;
  count_overlap(shard);
  for (; !shard.streams.empty(); shard.streams.pop_front()) shard.server->adopt(shard.streams.front());
  Fault fault = shard.events.faults.front();
  shard.events.faults.pop_front();
  if (old_events_.size() < kMaxOldEvents)
    old_events_.push_back(fault);
  else
    old_events_[random(kMaxOldEvents)] = fault;
  fault.since_ns = INT64_MAX;  // never patient enough to call a discarded page lost
  shard.server->handle(fault);
}

// Invariant 6: an event that comes late, or twice, changes no byte.
void PagingModel::repeat_old_event() {
  if (old_events_.empty()) return;
  Fault fault = old_events_[random(old_events_.size())];
  fault.since_ns = INT64_MAX;
  Shard& shard = shard_of(fault.page);
  Running running(shard.running);
  shard.asleep = false;
  shard.server->handle(fault);
}

// A thread that has nothing to do sleeps, and what wakes it is either work of its own or another thread.
void PagingModel::retry(Shard& shard) {
  if (shard.asleep) return;
  Running running(shard.running);
  shard.woken = false;
  shard.asleep = !shard.server->retry_deferred() && !shard.woken;
}

void PagingModel::evict() {
  if (evictor_asleep_) return;
  Running running(in_evictor_);
  Evictor& evictor = logic_->evictor;
  evictor.start();
  if (random(8) == 0) evictor.send_discards();
  evictor_asleep_ = !evictor.due() && evictor.in_flight() == 0 && !evictor.more_discards();
}

// Inside a kernel call of one of the pager's threads the guest runs, and so may the other threads.
void PagingModel::preempt() {
  if (depth_ >= kMaxDepth || random(4) != 0) return;
  ++depth_;
  // Several steps of each, so that whole stories fit into one call: a fault, its answer, and the write after it.
  for (uint64_t n = random(12); n > 0; --n) {
    switch (random(recovering_ ? 2 : 8)) {  // whoever recovers is alone with the guest
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
  survive([this] { do_step(); });
  if (late_.empty() || random(8) != 0) return;
  apply(late_.front());
  late_.pop_front();
}

void PagingModel::do_step() {
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
    case 10:
      retry(any_shard());
      break;
    case 11:
      if (random(4) == 0) repeat_old_event();
      if (options_.discards && random(4) == 0) discard_some();
      start_prefetch();
      break;
  }
}

void PagingModel::start_prefetch() {
  Running running(in_prefetcher_);
  if (logic_->prefetcher.waiting()) {
    logic_->prefetcher.resume();
  } else if (!windows_.empty()) {
    const PrefetchWindow window = windows_.front();
    windows_.pop_front();
    strides_prefetched_.insert(window.stride);
    logic_->prefetcher.start(window);
  }
}

void PagingModel::come_to_rest() {
  survive([this] { reach_rest(); });
  if (deaths_ > 0) survive([this] { reach_rest(); });
  const Processor* left = waiting_processor();
  if (left && !lost()) breach("a processor is never woken", left->page);
}

void PagingModel::reach_rest() {
  mortal_ = false;
  depth_ = kMaxDepth;  // no preemption
  for (int n = 0; n < 1000 && waiting_processor() && !lost(); ++n) {
    for (Shard& shard : shards_) {
      deliver_event(shard);
      deliver(shard.demand);
    }
    deliver(prefetch_);
    deliver(write_back_);
    evict();
    for (Shard& shard : shards_) retry(shard);
  }
  depth_ = 0;
  mortal_ = true;
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
