#include "pager/copy_keeper.h"

#include <fmt/format.h>

#include <algorithm>

namespace hecaton {
namespace {

constexpr int64_t kRepairPollNs = 1'000'000;

}  // namespace

CopyKeeper::CopyKeeper(LoopContext context, Hooks hooks)
    : context_(context),
      hooks_(std::move(hooks)),
      watch_(context.pool.most_donors()),
      evictor_(context.state, *this, context.compression),
      fanout_(Evictor::kDepth),
      repairer_(context.state, context.pool.states(), *this, context.repair_bytes_per_second),
      first_donors_(context.pool.donors()),
      found_no_room_(context.state.placement.extents()) {}

void CopyKeeper::receive(size_t donor) {
  auto take = [&](const wire::FrameHeader& header, std::span<const std::byte> body) {
    return take_reply(donor, header, body);
  };
  Result<size_t> frames = context_.pool.write_back(donor).receive(take);
  if (!frames.ok()) connection_ended(donor, frames.error());
}

Result<void> CopyKeeper::take_reply(size_t donor, const wire::FrameHeader& header, std::span<const std::byte> body) {
  const int64_t now = context_.now();
  if (!watch_.answered(donor, now)) {
    return Error{ErrorCode::kProtocol, 0, "the donor answered a write that was not sent"};
  }
  context_.pool.answered(donor);
  if (header.request_id == kDiscardId) return {};
  const uint64_t id = header.request_id;
  if (id & kRepairRead) return repairer_.on_read(id & ~kRepairRead, header.status, body);
  if (id & kRepairWrite) return repairer_.on_written(id & ~kRepairWrite, header.status, body);
  const std::optional<ExtentNumber> extent = fanout_.owes(id % Evictor::kDepth, donor);
  const CopySet copies_now = extent ? context_.state.placement.copies_of(*extent) : CopySet();
  WriteFanout::Answer answer = HEC_TRY(fanout_.answered(id, donor, copies_now, header.status, body));
  if (answer.full) {
    context_.pool.full(donor);
    // Or its pages could never leave. Another donor gets the copy.
    if (can_do_without(donor, copies_now)) drop_copy(*extent, donor);
    repairer_.look_again();
  }
  if (!answer.settled) return {};
  if (!answer.failed) return evictor_.on_written(answer.batch, fanout_.rejected());
  evictor_.on_write_failed(answer.batch);
  return {};
}

void CopyKeeper::send_write(uint64_t batch, ExtentNumber extent, std::span<const wire::PageEntry> entries,
                            std::span<const iovec> pages) {
  const CopySet copies = context_.state.placement.copies_of(extent);
  const uint64_t id = fanout_.begin(batch, extent, copies);
  for (size_t i = 0; i < copies.size(); ++i) {
    const size_t donor = copies[i].donor;
    watch_.asked(donor, context_.now());
    Result<void> sent = context_.pool.write_back(donor).send_write(id, entries, pages);
    if (!sent.ok()) connection_ended(donor, sent.error());
  }
}

void CopyKeeper::send_discard(ExtentNumber extent, std::span<const PageRun> runs) {
  const CopySet copies = context_.state.placement.copies_of(extent);
  for (size_t i = 0; i < copies.size(); ++i) {
    const size_t donor = copies[i].donor;
    if (context_.pool.states().connected(donor)) discard_at(donor, runs);  // else: see take_over_copies()
  }
}

// Whether the extent has a complete copy at another donor, that can be written to now.
bool CopyKeeper::can_do_without(size_t donor, CopySet copies) const {
  for (size_t i = 0; i < copies.size(); ++i) {
    if (copies[i].donor != donor && copies[i].complete && context_.pool.states().live(copies[i].donor)) return true;
  }
  return false;
}

// A fault is about to wait for an eviction.
bool CopyKeeper::room_is_short() const {
  const Budget& budget = context_.state.budget;
  return budget.resident() > budget.limit() - budget.reserve() / 4;
}

bool CopyKeeper::prepare(ExtentNumber extent) {
  PlacementTable& placement = context_.state.placement;
  const CopySet before = placement.copies_of(extent);
  for (size_t i = 0; i < before.size(); ++i) {
    const size_t donor = before[i].donor;
    if (context_.pool.states().live(donor)) continue;
    // A silent donor may only be slow: as long as there is room, other extents leave first.
    if (context_.pool.states().connected(donor) && !room_is_short()) return false;
    if (before[i].complete && !can_do_without(donor, before)) return false;  // its only copy: wait for it
    drop_copy(extent, donor);
  }
  const CopySet copies = placement.under_protected(extent) ? place(extent) : placement.copies_of(extent);
  if (copies.empty()) {
    note_without_room(extent);
    return false;
  }
  if (copies.complete_copies() < copies.size() || placement.under_protected(extent)) repairer_.look_again();
  return true;
}

// One that was just added has no connection here yet; one that is silent or cut off would keep pages from leaving.
bool CopyKeeper::usable(size_t donor) const {
  return donor < context_.pool.write_back_links().size() && context_.pool.states().live(donor);
}

CopySet CopyKeeper::place(ExtentNumber extent) {
  PlacementTable& placement = context_.state.placement;
  const CopySet before = placement.copies_of(extent);
  const CopySet after = placement.place(extent, [this](size_t donor) { return usable(donor); });
  // Where it was before, there may be pages of then.
  for (size_t i = 0; i < after.size(); ++i) {
    const size_t donor = after[i].donor;
    if (!before.has(donor) && std::erase(stale_[donor], extent) > 0) forget_extent(donor, extent);
  }
  return after;
}

// Once each, however often it is tried.
void CopyKeeper::note_without_room(ExtentNumber extent) {
  if (found_no_room_[extent.value]) return;
  found_no_room_[extent.value] = true;
  ++without_room_;
  tell_room();
}

void CopyKeeper::tell_room() {
  context_.pool.set_lacking_copies(repairer_.lacking_copies() + without_room_);
}

// It may come back, and would keep pages that nobody asks for: it is told to forget them then.
void CopyKeeper::drop_copy(ExtentNumber extent, size_t donor) {
  context_.state.placement.drop(extent, donor);
  repairer_.copy_dropped(extent, donor);
  if (context_.pool.states().live(donor)) return forget_extent(donor, extent);
  if (context_.pool.states().hoped_for(donor)) stale_[donor].push_back(extent);
}

void CopyKeeper::forget_stale(size_t donor) {
  for (ExtentNumber extent : stale_[donor]) {
    if (!context_.state.placement.copies_of(extent).has(donor)) forget_extent(donor, extent);
  }
  stale_[donor].clear();
}

void CopyKeeper::forget_extent(size_t donor, ExtentNumber extent) {
  if (!context_.pool.states().connected(donor)) return;
  const PageNumber first(extent.value * kPagesPerExtent);
  const PageRun all{first, std::min<uint64_t>(kPagesPerExtent, context_.state.table.pages() - first.value)};
  discard_at(donor, std::span(&all, 1));
}

void CopyKeeper::discard_at(size_t donor, std::span<const PageRun> runs) {
  watch_.asked(donor, context_.now());
  Result<void> sent = context_.pool.write_back(donor).send_discard(kDiscardId, runs);
  if (!sent.ok()) connection_ended(donor, sent.error());
}

bool CopyKeeper::repair_read(uint64_t piece, size_t donor, std::span<const PageNumber> pages) {
  watch_.asked(donor, context_.now());
  Result<void> sent = context_.pool.write_back(donor).send_read(kRepairRead | piece, pages);
  if (!sent.ok()) connection_ended(donor, sent.error());
  return sent.ok();
}

bool CopyKeeper::repair_write(uint64_t piece, size_t donor, std::span<const wire::PageEntry> entries,
                              std::span<const iovec> pages) {
  watch_.asked(donor, context_.now());
  Result<void> sent = context_.pool.write_back(donor).send_write(kRepairWrite | piece, entries, pages);
  if (!sent.ok()) connection_ended(donor, sent.error());
  return sent.ok();
}

// What was discarded while that donor was cut off, or just before, some of it at a time.
void CopyKeeper::repeat_discards() {
  std::vector<PageRun> runs;
  for (; !unsure_.empty() && watch_.owed() < Evictor::kDiscardsAtOnce; unsure_.pop_back()) {
    const auto [extent, donor] = unsure_.back();
    if (!context_.pool.states().connected(donor)) continue;  // else: see take_over_copies()
    if (!context_.state.placement.copies_of(extent).has(donor)) continue;
    runs.clear();
    const uint64_t end = std::min(context_.state.table.pages(), (extent.value + 1) * kPagesPerExtent);
    for (PageNumber page(extent.value * kPagesPerExtent); page.value < end; ++page) {
      // What is not held here was not sent since it was discarded: whatever that donor has of it is of before.
      const PageStatus status = context_.state.table.get(page);
      if (status.held && status.state != PageState::kAbsent) continue;
      if (runs.empty() || runs.back().end() != page) runs.push_back({page, 0});
      ++runs.back().count;
    }
    if (!runs.empty()) discard_at(donor, runs);
  }
}

void CopyKeeper::step_repair() {
  repeat_discards();
  if (!repairer_.due()) return;
  repairer_.step(context_.now());
  if (repairer_.due()) return;
  tell_room();
  if (exposed_since_ns_ == 0 || context_.pool.lacking_copies() > 0) return;
  const double seconds = static_cast<double>(context_.now() - exposed_since_ns_) / 1e9;
  context_.pool.notice(
      fmt::format("all of the VM's memory is protected again: {} were copied, {:.1f} s after a donor "
                  "was lost",
                  format_size(repairer_.copied_bytes() - copied_before_), seconds));
  exposed_since_ns_ = 0;
}

int64_t CopyKeeper::wait_for_repair_ns() const {
  if (repairer_.waits_for_donor()) return kRepairPollNs;
  return std::clamp<int64_t>(repairer_.wakes_at_ns() - context_.now(), 0, kRepairPollNs);
}

// Called from within a receive, too: the connection is closed later.
void CopyKeeper::connection_ended(size_t donor, const Error& error) {
  context_.pool.connection_ended(donor, error);
  if (std::find(ended_.begin(), ended_.end(), donor) == ended_.end()) ended_.push_back(donor);
}

void CopyKeeper::see_changes() {
  DonorPool& pool = context_.pool;
  seen_changes_ = pool.states().changes();
  if (Result<void> taken = pool.take_up_write_back(); !taken.ok()) {
    connection_ended(pool.write_back_links().size() - 1, taken.error());
  }
  const size_t donors = pool.write_back_links().size(), known = seen_.size();
  seen_.resize(donors, DonorState::kLive);
  stale_.resize(donors);
  for (size_t donor : ended_) {
    pool.write_back_links().close(donor);
    watch_.forget(donor);
    give_up_batches(donor, true);
    repairer_.give_up(donor);
  }
  ended_.clear();
  for (size_t donor = 0; donor < donors; ++donor) {
    if (std::optional<size_t> from = pool.inherits_from(donor)) take_over_copies(donor, *from);
    const DonorState state = pool.states().of(donor);
    if (donor >= std::max(known, first_donors_) && state == DonorState::kLive) forget_all_but_copies(donor);
    if (state != seen_[donor]) see_change(donor, state);
    seen_[donor] = state;
    // Its state may have changed twice since the last look.
    if (state == DonorState::kLive) forget_stale(donor);
  }
  // Batches that a silent donor owes are given up as soon as it can be done without.
  for (size_t donor = 0; donor < donors; ++donor) {
    if (seen_[donor] != DonorState::kLive) give_up_batches(donor, false);
  }
  without_room_ = 0;
  found_no_room_.assign(found_no_room_.size(), false);
  repairer_.look_again();
  hooks_.wake_fault_threads();
}

void CopyKeeper::see_change(size_t donor, DonorState state) {
  if (state == DonorState::kLive) return;
  repairer_.give_up(donor);
  if (state == DonorState::kSilent) return;
  context_.pool.write_back_links().close(donor);
  watch_.forget(donor);
  give_up_batches(donor, true);
  if (state == DonorState::kLost) lose_donor(donor);
}

// `whatever`: the answers never come. Otherwise only those that can be done without.
void CopyKeeper::give_up_batches(size_t donor, bool whatever) {
  for (uint64_t batch = 0; batch < fanout_.batches(); ++batch) {
    const std::optional<ExtentNumber> extent = fanout_.owes(batch, donor);
    if (!extent || !(whatever || can_do_without(donor, context_.state.placement.copies_of(*extent)))) continue;
    fanout_.give_up(batch);
    evictor_.on_write_failed(batch);
  }
}

// Once: what was another number's is this one's. Readers find no donor for these extents in between, and wait.
void CopyKeeper::take_over_copies(size_t donor, size_t from) {
  PlacementTable& placement = context_.state.placement;
  stale_[from].clear();
  if (placement.placed_at(from) == 0) return;
  for (ExtentNumber extent(0); extent.value < placement.extents(); ++extent.value) {
    if (!placement.copies_of(extent).has(from)) continue;
    placement.rename(extent, from, donor);
    unsure_.push_back({extent, donor});
  }
  context_.pool.touch();
}

// A donor that is reached again, be it after it was given up, may have pages that it was told to forget, or would have
// been.
void CopyKeeper::forget_all_but_copies(size_t donor) {
  const PlacementTable& placement = context_.state.placement;
  std::vector<PageRun> runs;
  for (ExtentNumber extent(0); extent.value < placement.extents(); ++extent.value) {
    if (placement.copies_of(extent).has(donor)) continue;
    const PageNumber first(extent.value * kPagesPerExtent);
    if (runs.empty() || runs.back().end() != first) runs.push_back({first, 0});
    runs.back().count += std::min<uint64_t>(kPagesPerExtent, context_.state.table.pages() - first.value);
    if (runs.size() < wire::kMaxDiscardRuns) continue;
    discard_at(donor, runs);
    runs.clear();
  }
  if (!runs.empty()) discard_at(donor, runs);
}

void CopyKeeper::lose_donor(size_t donor) {
  stale_[donor].clear();
  PlacementTable& placement = context_.state.placement;
  LossReport loss;
  for (uint64_t extent = 0; extent < placement.extents(); ++extent) {
    const CopySet copies = placement.copies_of(ExtentNumber(extent));
    if (!copies.has(donor)) continue;
    const bool last = copies.without(donor).complete_copies() == 0 && copies.complete_copies() > 0;
    placement.drop(ExtentNumber(extent), donor);
    if (exposed_since_ns_ == 0 && placement.wanted() > 1) {
      exposed_since_ns_ = context_.now();
      copied_before_ = repairer_.copied_bytes();
    }
    if (last) lose_extent(ExtentNumber(extent), &loss);
  }
  context_.pool.touch();
  if (loss.pages == 0) return;
  loss.donor = donor;
  loss.reason = fmt::format("donor {} is lost: {}", context_.pool.url(donor).printable(), context_.pool.trouble(donor));
  context_.loss.report(loss);
}

// Its last complete copy is gone. What is resident is here only, from now on; what is remote is lost. Copies that were
// being filled begin anew.
void CopyKeeper::lose_extent(ExtentNumber extent, LossReport* loss) {
  PagerState& state = context_.state;
  const CopySet left = state.placement.copies_of(extent);
  for (size_t i = 0; i < left.size(); ++i) drop_copy(extent, left[i].donor);
  const uint64_t end = std::min(state.table.pages(), (extent.value + 1) * kPagesPerExtent);
  for (PageNumber page(extent.value * kPagesPerExtent); page.value < end; ++page) {
    if (state.table.keep_here(page)) continue;
    const PageState where = state.table.get(page).state;
    if (where != PageState::kRemote && where != PageState::kFetching) continue;
    add_lost_page(*loss, page);
    // What is on its way is the fault thread's to lose: the answer may still come from somewhere.
    if (state.on_loss == OnLoss::kPoison && where == PageState::kRemote && state.table.lose(page)) {
      state.remote_pages.fetch_sub(1);
    }
  }
}

}  // namespace hecaton
