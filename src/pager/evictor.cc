#include "pager/evictor.h"

#include <algorithm>
#include <cstring>

#include "base/clock.h"

namespace hecaton {
namespace {

bool is_zero_page(const std::byte* page) {
  // The first bytes decide nearly always; then the page is compared with itself, shifted by one word.
  uint64_t first;
  std::memcpy(&first, page, sizeof first);
  return first == 0 && std::memcmp(page, page + sizeof first, kPageBytes - sizeof first) == 0;
}

// A punch without hurry frees at least so many pages, or covers so many if they lie close together.
constexpr uint64_t kCalmPages = 16, kCalmSpan = 64;

}  // namespace

Evictor::Evictor(PagerState& state, EvictionBackend& backend, Compression compression)
    : state_(state),
      backend_(backend),
      policy_(state.table, state.budget.limit()),
      packer_(state, compression),
      batches_(kDepth) {
  entries_.reserve(EvictionPolicy::kMaxRun);
  pieces_.reserve(EvictionPolicy::kMaxRun);
  runs_.reserve(EvictionPolicy::kMaxRun);
}

bool Evictor::eviction_wanted() const {
  const Budget& budget = state_.budget;
  if (leaving_pages_ == 0) return budget.eviction_due();
  return budget.resident() > budget.limit() - budget.reserve() * 3 / 2 + leaving_pages_;
}

// Once the budget is all but used up, half a reserve of pages should be ready to leave.
bool Evictor::cleaning_wanted() const {
  const Budget& budget = state_.budget;
  return budget.resident() > budget.limit() - std::min(budget.limit(), 2 * budget.reserve()) &&
         ready_pages_ + cleaning_pages_ < budget.reserve() / 2 && ready_runs_ + in_flight_ < kMostReady;
}

PageRun Evictor::next_run(Purpose purpose) {
  if (purpose == Purpose::kWriteBack || ready_runs_ == 0) return policy_.next_victims();
  const Ready oldest = ready_[first_ready_];
  first_ready_ = (first_ready_ + 1) % kMostReady;
  --ready_runs_;
  ready_pages_ -= oldest.pages;
  return oldest.run;
}

void Evictor::make_ready(const Batch& batch) {
  if (batch.candidates == 0) return;
  HEC_CHECK(ready_runs_ < kMostReady);
  ready_[(first_ready_ + ready_runs_++) % kMostReady] = {batch.run, batch.candidates};
  ready_pages_ += batch.candidates;
}

Evictor::Started Evictor::start() {
  if (in_flight_ == kDepth || !due()) return Started::kNotDue;
  meter_.work_begins(monotonic_ns());
  const Started started = start_run();
  meter_.work_ends(monotonic_ns());
  return started;
}

Evictor::Started Evictor::start_run() {
  uint64_t index = 0;
  while (batches_[index].used) ++index;
  Batch& batch = batches_[index];
  batch.purpose = eviction_wanted() ? Purpose::kEvict : Purpose::kWriteBack;
  batch.run = next_run(batch.purpose);
  if (batch.run.count == 0) return Started::kAllBusy;
  if (!backend_.prepare(extent_of(batch.run.first))) return Started::kAllBusy;
  if (!take_pages(batch)) {
    if (batch.purpose == Purpose::kEvict) return Started::kTryAgain;
    make_ready(batch);  // nothing of it needs to be written back
    return Started::kYes;
  }
  if (!protect_pages(batch)) {
    give_up(batch);
    return Started::kTryAgain;
  }
  batch.used = true;
  ++in_flight_;
  (batch.purpose == Purpose::kEvict ? leaving_pages_ : cleaning_pages_) += batch.pages;
  const bool sent = send(batch, index);
  free_reread_holes(batch);
  if (!sent) complete(batch);
  return Started::kYes;
}

bool Evictor::take_pages(Batch& batch) {
  batch.pages = 0;
  batch.candidates = 0;
  for (uint64_t i = 0; i < batch.run.count; ++i) {
    const PageNumber page = page_of(batch, i);
    batch.items[i] = Item{};
    const PageStatus status = state_.table.get(page);
    // A run that was ready for a while may have pages that were used since: they stay.
    if (status.referenced || status.busy || !status.resident()) continue;
    ++batch.candidates;
    if (batch.purpose == Purpose::kWriteBack && status.state != PageState::kDirty) continue;
    std::optional<PageTable::Leave> leave = state_.table.begin_leave(page);
    if (!leave) continue;
    batch.items[i] = Item{*leave, true, true, false, false};
    ++batch.pages;
    if (leave->trigger) state_.count_waste(page);
  }
  return batch.pages > 0;
}

// False if the kernel wants an event to be read first, or the guest is gone.
bool Evictor::protect_pages(Batch& batch) {
  uint64_t first = batch.run.count, end = 0;
  for (uint64_t i = 0; i < batch.run.count; ++i) {
    if (!batch.items[i].mine || !batch.items[i].leave.dirty) continue;
    first = std::min(first, i);
    end = i + 1;
  }
  // One call from the first dirty page to the last. What lies between and is not ours is protected in vain, and
  // harmlessly: a write to it un-protects it. A clean page is protected already, or not mapped at all.
  if (first < end && state_.memory.protect({page_of(batch, first), end - first}) != InstallOutcome::kInstalled) {
    return false;
  }
  for (uint64_t i = 0; i < batch.run.count; ++i) {
    if (batch.items[i].mine) state_.table.release(page_of(batch, i));
  }
  return true;
}

void Evictor::give_up(Batch& batch) {
  // Some pages may be protected already. That is harmless: a write to a protected Dirty page un-protects it.
  for (uint64_t i = 0; i < batch.run.count; ++i) {
    if (batch.items[i].mine) state_.table.cancel_leave(page_of(batch, i), batch.items[i].leave);
  }
}

// True if an answer will come.
bool Evictor::send(Batch& batch, uint64_t index) {
  entries_.clear();
  pieces_.clear();
  batch.packed = packer_.begin(batch.pages);
  for (uint64_t i = 0; i < batch.run.count; ++i) {
    Item& item = batch.items[i];
    if (!item.mine || !item.leave.dirty) continue;
    const PageNumber page = page_of(batch, i);
    std::byte* bytes = state_.memory.bytes(page);
    item.zero = is_zero_page(bytes);
    if (item.zero) continue;
    state_.table.mark_held(page);
    const std::span<const std::byte> stored = packer_.pack(bytes, page, item.leave.version);
    const uint64_t sum = wire::page_checksum(stored, page, item.leave.version);
    entries_.push_back(
        {page, sum, item.leave.version, wire::PageState::kPresent, static_cast<uint16_t>(stored.size())});
    add_piece(stored);
  }
  if (entries_.empty()) return false;
  batch.sent_pages = entries_.size();
  const int64_t now = monotonic_ns();
  meter_.work_ends(now);
  batch.sent_at = meter_.at(now);
  backend_.send_write(index, extent_of(batch.run.first), entries_, pieces_);
  meter_.work_begins(monotonic_ns());
  return true;
}

void Evictor::add_piece(std::span<const std::byte> stored) {
  const std::byte* after =
      pieces_.empty() ? nullptr : static_cast<const std::byte*>(pieces_.back().iov_base) + pieces_.back().iov_len;
  if (after == stored.data()) {
    pieces_.back().iov_len += stored.size();
  } else {
    pieces_.push_back({const_cast<std::byte*>(stored.data()), stored.size()});
  }
}

Result<void> Evictor::on_written(uint64_t index, std::span<const PageNumber> rejected) {
  HEC_CHECK(index < kDepth && batches_[index].used);
  Batch& batch = batches_[index];
  const int64_t busy_ns = meter_.answered(batch.sent_at, monotonic_ns());
  for (PageNumber page : rejected) {
    if (page < batch.run.first || page >= batch.run.end()) {
      on_write_failed(index);
      return Error{ErrorCode::kProtocol, 0, "the donor rejected a page that was not sent"};
    }
    batch.items[page - batch.run.first].rejected = true;
    state_.counters.rejected_writes.add();
  }
  packer_.acknowledged(batch.packed, batch.sent_pages, busy_ns);
  settle(batch);
  return {};
}

void Evictor::on_write_failed(uint64_t index) {
  HEC_CHECK(index < kDepth && batches_[index].used);
  for (Item& item : batches_[index].items) item.rejected = true;
  settle(batches_[index]);
}

void Evictor::settle(Batch& batch) {
  meter_.work_begins(monotonic_ns());
  complete(batch);
  meter_.work_ends(monotonic_ns());
}

void Evictor::complete(Batch& batch) {
  for (uint64_t i = 0; i < batch.run.count; ++i) {
    Item& item = batch.items[i];
    if (item.mine) item.mine = commit(batch.purpose, item, page_of(batch, i));
  }
  if (batch.purpose == Purpose::kEvict) {
    free_committed(batch);
  } else {
    make_ready(batch);
  }
  free_reread_holes(batch);
  batch.used = false;
  --in_flight_;
  (batch.purpose == Purpose::kEvict ? leaving_pages_ : cleaning_pages_) -= batch.pages;
}

// False: the page stays as it is now; it was taken back, or its bytes are still only here.
bool Evictor::commit(Purpose purpose, const Item& item, PageNumber page) {
  const uint32_t version = item.leave.version;
  // Torn by a write that took the page back, or damaged on the way: either way the newest bytes are here.
  if (item.rejected) return state_.table.keep_dirty(page, version, true) && false;
  if (purpose == Purpose::kWriteBack) {
    if (item.zero) {  // not sent: it becomes Absent when it leaves
      return state_.table.keep_dirty(page, version, false);
    }
    if (!state_.table.commit_clean(page, version)) return false;
    state_.counters.written_back.add();
    return true;
  }
  if (item.zero) {
    if (!state_.table.commit_absent(page, version)) return false;
    state_.counters.zeroed.add();
    if (state_.table.get(page).held) state_.mark_discards(page);
    return true;
  }
  if (!state_.table.commit_remote(page, version)) return false;
  state_.remote_pages.fetch_add(1);
  if (item.leave.dirty) state_.counters.written_back.add();
  return true;
}

// Each stretch of committed pages and gaps is freed with one call; unless budget is short, in calls so short that a
// donor on this machine, or the guest, gets the processor in between.
void Evictor::free_committed(Batch& batch) {
  const bool urgent = state_.budget.resident() > state_.budget.limit() - state_.budget.reserve() / 2;
  for (uint64_t i = 0; i < batch.run.count;) {
    if (!batch.items[i].mine) {
      ++i;
      continue;
    }
    uint64_t end = i + 1, stop = i + 1, pages = 1;  // `end`: after the last committed page of the stretch
    for (; stop < batch.run.count && (urgent || pages < kCalmPages || stop - i < kCalmSpan); ++stop) {
      const bool mine = batch.items[stop].mine;
      if (!mine && !state_.table.begin_gap(page_of(batch, stop))) break;
      if (mine) end = stop + 1;
      pages += mine;
    }
    for (uint64_t gap = end; gap < stop; ++gap) state_.table.release(page_of(batch, gap));
    punch_stretch(batch, i, end);
    if (!urgent) backend_.let_others_run();
    i = std::max(end, stop);
  }
}

// The pages are Remote or Absent in the table, and busy: nobody can put them in place before they are punched.
void Evictor::punch_stretch(const Batch& batch, uint64_t first, uint64_t end) {
  const PageRun run{page_of(batch, first), end - first};
  uint64_t freed = 0;
  HEC_CHECK(state_.memory.punch(run).ok());
  for (uint64_t i = first; i < end; ++i) {
    state_.table.release(page_of(batch, i));
    freed += batch.items[i].mine;
  }
  if (state_.give_budget(freed)) backend_.wake_fault_threads();
  state_.counters.evicted.add(freed);
  state_.memory.wake(run);
}

// A page that was discarded while it was leaving may have been read for sending after its hole was punched, which made
// a page of zeros that nobody counts: punch it again. At once, for the answer may take long; and after the answer, for
// the network may read the page later than the sending.
void Evictor::free_reread_holes(const Batch& batch) {
  for (uint64_t i = 0; i < batch.run.count; ++i) {
    const PageNumber page = page_of(batch, i);
    if (!batch.items[i].begun || !state_.table.begin_absent(page)) continue;
    HEC_CHECK(state_.memory.punch({page, 1}).ok());
    state_.table.release(page);
  }
}

void Evictor::send_discards() {
  if (next_discards_ == 0 && !state_.take_any_discards()) return;
  for (size_t sent = 0; next_discards_ < state_.extents(); ++next_discards_) {
    if (sent == kDiscardsAtOnce) return;
    const ExtentNumber extent(next_discards_);
    if (!state_.take_discards(extent)) continue;
    gather_discards(extent);
    if (runs_.empty()) continue;
    backend_.send_discard(extent, runs_);
    ++sent;
  }
  next_discards_ = 0;
}

void Evictor::gather_discards(ExtentNumber extent) {
  runs_.clear();
  const uint64_t end = std::min(state_.table.pages(), (extent.value + 1) * kPagesPerExtent);
  for (PageNumber page(extent.value * kPagesPerExtent); page.value < end; ++page) {
    if (!state_.table.take_discarded(page)) continue;
    if (!runs_.empty() && runs_.back().end() == page) {
      ++runs_.back().count;
    } else {
      runs_.push_back({page, 1});
    }
  }
}

}  // namespace hecaton
