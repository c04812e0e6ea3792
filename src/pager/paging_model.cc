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

// Whether what a donor stores is this page.
bool stands_for(std::span<const std::byte> stored, const std::byte* page) {
  std::array<std::byte, kPageBytes> unpacked;
  if (stored.size() < kPageBytes) {
    if (!decompress_page(stored, unpacked)) return false;
    stored = unpacked;
  }
  return std::memcmp(stored.data(), page, kPageBytes) == 0;
}

}  // namespace

PagingModel::PagingModel(const Options& options)
    : options_(options),
      random_(options.seed),
      memory_(options.pages * kPageBytes),
      kernel_(options.pages),
      truth_(options.pages),
      forgiven_(options.pages),
      words_(options.pages),
      state_(words_, options.budget, *this, Stripes(options.shards, options.stripe_pages)),
      evictor_(state_, *this, options.compression),
      prefetcher_(state_, *this),
      processors_(options.processors) {
  const Prefetcher prefetcher(
      {.region_pages = options.pages, .window_pages = 16, .ahead_pages = options.budget / options.shards});
  for (unsigned shard = 0; shard < options.shards; ++shard) {
    shards_.push_back(Shard{FaultServer(state_, prefetcher, *this, shard), {}, {}, {}, {}});
  }
}

void PagingModel::breach(const std::string& what, PageNumber page) {
  if (!breach_.empty()) return;
  PageStatus status = state_.table.get(page);
  const KernelPage& kernel = kernel_[page.value];
  breach_ = fmt::format("{}; page {} is {}{} version {} in the table,{}{}{} in the kernel (seed {}, access {})", what,
                        page.value, name_of(status.state), status.busy ? " busy" : "", status.version,
                        kernel.present ? " present" : " a hole", kernel.mapped ? " mapped" : "",
                        kernel.protected_ ? " protected" : "", options_.seed, accesses_);
}

uint64_t PagingModel::word_of(PageNumber page) const {
  uint64_t word;
  std::memcpy(&word, memory_.data() + page.value * kPageBytes + 8 * (page.value % 512), sizeof word);
  return word;
}

// ---------------------------------------------------------------- the guest

void PagingModel::run_processor(Processor& processor) {
  if (!processor.waiting) {
    if (processor.scan > 0) {
      --processor.scan;
      const int64_t pages = static_cast<int64_t>(options_.pages);
      const int64_t next = static_cast<int64_t>(processor.page.value) + processor.stride + pages;
      processor.page = PageNumber(static_cast<uint64_t>(next % pages));
    } else {
      processor.page = PageNumber(random(options_.pages));
      processor.write = random(2) == 0;
      if (random(10) == 0) begin_scan(processor);
    }
  }
  access(processor);
}

// Forward, backward and with a stride: all of them are fetched ahead.
void PagingModel::begin_scan(Processor& processor) {
  constexpr std::array<int64_t, 6> kStrides{1, 1, -1, 2, -3, 16};
  processor.scan = 40;
  processor.write = random(4) == 0;
  processor.stride = kStrides[random(kStrides.size())];
}

void PagingModel::access(Processor& processor) {
  const PageNumber page = processor.page;
  KernelPage& kernel = kernel_[page.value];
  processor.waiting = true;
  if (!kernel.mapped) {
    return raise(page, kernel.present ? Fault::Kind::kMinor : Fault::Kind::kMissing, processor.write);
  }
  if (processor.write && kernel.protected_) return raise(page, Fault::Kind::kWriteProtected, true);
  processor.waiting = false;
  ++accesses_;
  const uint64_t seen = word_of(page);
  if (seen != truth_[page.value] && !(forgiven_[page.value] && seen == 0)) {
    breach(fmt::format("the guest read {:#x} where it had written {:#x}", seen, truth_[page.value]), page);
  }
  if (!processor.write) return;
  truth_[page.value] = next_value_++;
  forgiven_[page.value] = false;
  std::memcpy(raw(page) + 8 * (page.value % 512), &truth_[page.value], 8);
}

void PagingModel::raise(PageNumber page, Fault::Kind kind, bool write) {
  shard_of(page).events.push_back({page, kind, write, 0});
}

// The guest's process gives memory back, as QEMU's balloon does: the hole first, the event after.
void PagingModel::discard_some() {
  PageRun run{PageNumber(random(options_.pages)), 1 + random(8)};
  if (!prefetch_.empty() && random(2) == 0) run.first = prefetch_.front().pages.front();  // one that is on its way
  run.count = std::min(run.count, options_.pages - run.first.value);
  run = state_.stripes.within_stripe(run);  // the kernel tells of each mapping by itself
  if (must_read_first(run.first)) return;   // its thread waits until the one before has been read
  for (PageNumber page = run.first; page < run.end(); ++page) {
    for (const Processor& processor : processors_) {
      if (processor.waiting && processor.page == page) return;  // a guest does not discard what it is using
    }
  }
  for (PageNumber page = run.first; page < run.end(); ++page) {
    kernel_[page.value] = KernelPage{};
    std::memset(raw(page), 0, kPageBytes);
    forgiven_[page.value] = true;
  }
  shard_of(run.first).removals.push_back(run);
}

// ---------------------------------------------------------------- the kernel

InstallOutcome PagingModel::zero_page(PageNumber page) {
  preempt();
  KernelPage& kernel = kernel_[page.value];
  if (must_read_first(page)) return InstallOutcome::kRetry;
  if (kernel.present) return InstallOutcome::kAlreadyPresent;
  std::memset(raw(page), 0, kPageBytes);
  kernel = {true, true, false};
  wake({page, 1});
  check_budget();
  return InstallOutcome::kInstalled;
}

InstallOutcome PagingModel::copy(PageRun run, const std::byte* source, bool write_protected, bool wake_too,
                                 uint64_t* done) {
  preempt();
  *done = 0;
  InstallOutcome outcome = InstallOutcome::kInstalled;
  for (PageNumber page = run.first; page < run.end(); ++page, ++*done) {
    KernelPage& kernel = kernel_[page.value];
    if (must_read_first(page)) outcome = InstallOutcome::kRetry;
    if (kernel.present) outcome = InstallOutcome::kAlreadyPresent;
    if (outcome != InstallOutcome::kInstalled) break;
    std::memcpy(raw(page), source + *done * kPageBytes, kPageBytes);
    kernel = {true, true, write_protected};
  }
  if (wake_too && *done > 0) wake({run.first, *done});
  check_budget();
  preempt();
  return outcome;
}

InstallOutcome PagingModel::map(PageNumber page, bool write_protected) {
  preempt();
  KernelPage& kernel = kernel_[page.value];
  if (must_read_first(page)) return InstallOutcome::kRetry;
  if (!kernel.present) return InstallOutcome::kNoPage;
  if (kernel.mapped) return InstallOutcome::kAlreadyPresent;
  kernel.mapped = true;
  kernel.protected_ = write_protected;
  wake({page, 1});
  return InstallOutcome::kInstalled;
}

InstallOutcome PagingModel::protect(PageRun run) {
  preempt();
  for (PageNumber page = run.first; page < run.end(); ++page) {
    if (must_read_first(page)) return InstallOutcome::kRetry;
    kernel_[page.value].protected_ = true;
  }
  preempt();
  return InstallOutcome::kInstalled;
}

InstallOutcome PagingModel::unprotect(PageNumber page) {
  preempt();
  if (must_read_first(page)) return InstallOutcome::kRetry;
  kernel_[page.value].protected_ = false;
  wake({page, 1});
  preempt();
  return InstallOutcome::kInstalled;
}

InstallOutcome PagingModel::wake(PageRun run) {
  for (Processor& processor : processors_) {
    if (processor.page >= run.first && processor.page < run.end()) processor.waiting = false;
  }
  // It tries the same access again at its next turn: waiting is set anew if it faults again.
  for (Processor& processor : processors_) {
    if (!processor.waiting && processor.page >= run.first && processor.page < run.end()) access(processor);
  }
  return InstallOutcome::kInstalled;
}

Result<void> PagingModel::punch(PageRun run) {
  preempt();
  for (PageNumber page = run.first; page < run.end(); ++page) {
    if (kernel_[page.value].present) check_punch(page);
    kernel_[page.value] = KernelPage{};
    std::memset(raw(page), 0, kPageBytes);
  }
  preempt();
  return {};
}

// ---------------------------------------------------------------- the checks

// Invariant 5.
void PagingModel::check_budget() {
  uint64_t present = 0;
  for (const KernelPage& kernel : kernel_) present += kernel.present;
  if (present > state_.budget.limit())
    breach(fmt::format("{} pages resident of {}", present, options_.budget), PageNumber(0));
}

// Invariants 1 and 3: what is punched is named by the table as being elsewhere, and is there.
void PagingModel::check_punch(PageNumber page) {
  PageStatus status = state_.table.get(page);
  if (forgiven_[page.value] || (discarding_ > 0 && status.state == PageState::kAbsent)) return;
  if (!status.busy) breach("a hole is punched while others may put the page in place", page);
  if (status.state == PageState::kAbsent) {
    if (truth_[page.value] != 0) breach("a page that is not zero is punched as zeros", page);
    return;
  }
  if (status.state != PageState::kRemote) return breach("a hole is punched before the table says Remote", page);
  auto stored = donor_.find(page.value);
  if (stored == donor_.end() || stored->second.version != status.version ||
      !stands_for(stored->second.bytes, raw(page))) {
    breach("a hole is punched while the donor does not have these bytes", page);
  }
}

// ---------------------------------------------------------------- who runs next

void PagingModel::count_overlap(const Shard& shard) {
  auto other_runs = [&](const Shard& other) { return &other != &shard && other.running; };
  shards_overlapped_ += std::any_of(shards_.begin(), shards_.end(), other_runs);
}

void PagingModel::discard_for_guest(Shard& shard) {
  PageRun run = shard.removals.front();
  shard.removals.pop_front();
  ++discarding_;
  shard.server.discard(run);
  --discarding_;
}

void PagingModel::deliver_event(Shard& shard) {
  Running running(shard.running);
  if (!shard.removals.empty()) return discard_for_guest(shard);
  if (shard.events.empty()) return;
  count_overlap(shard);
  for (; !shard.streams.empty(); shard.streams.pop_front()) shard.server.adopt(shard.streams.front());
  Fault fault = shard.events.front();
  shard.events.pop_front();
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
  auto waits = [](const Processor& processor) { return processor.waiting; };
  for (int n = 0; n < 1000 && std::any_of(processors_.begin(), processors_.end(), waits) && !lost(); ++n) {
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
  auto left = std::find_if(processors_.begin(), processors_.end(), waits);
  if (left != processors_.end() && !lost()) breach("a processor is never woken", left->page);
}

void PagingModel::settle_and_verify() {
  come_to_rest();
  for (uint64_t page = 0; page < options_.pages && breach_.empty() && !lost(); ++page) {
    Processor reader;
    reader.page = PageNumber(page);
    processors_.push_back(reader);
    access(processors_.back());
    uint64_t patience = 200'000;
    while (processors_.back().waiting && breach_.empty() && !lost() && --patience > 0) step();
    if (patience == 0) breach("a processor is never woken", PageNumber(page));
    processors_.pop_back();
  }
}

}  // namespace hecaton
