#include "pager/fault_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "store/page_codec.h"

namespace hecaton {
namespace {

constexpr const char* kBadSeal = "a donor changed or rolled back a sealed page";

}  // namespace

FaultServer::FaultServer(PagerState& state, Prefetcher prefetcher, FaultBackend& backend, unsigned shard)
    : state_(state), prefetcher_(prefetcher), backend_(backend), shard_(shard), seal_(PageSeal::of(state.seal)) {
  free_slots_.reserve(kSlots);
  for (uint32_t i = 0; i < kSlots; ++i) free_slots_.push_back(i);
  deferred_.reserve(kMaxDeferred);
  retrying_.reserve(kMaxDeferred);
  pending_discards_.reserve(kMaxDeferred);
}

void FaultServer::handle(const Fault& fault) {
  state_.counters.faults.add();
  Outcome outcome = try_serve(fault);
  if (outcome == Outcome::kDeferForBudget) state_.counters.faults_stalled.add();
  if (outcome != Outcome::kDone) defer(fault, outcome);
  if (state_.budget.eviction_due()) backend_.wake_evictor();
}

// The table decides; the kind of event only says which access is waiting.
FaultServer::Outcome FaultServer::try_serve(const Fault& fault) {
  PageStatus status = state_.table.get(fault.page);
  // A discard that could not be done yet comes first: else it would take what the guest is about to write.
  if (status.busy || discard_waits(fault.page)) return Outcome::kDefer;
  switch (status.state) {
    case PageState::kAbsent:
      return fill_with_zeros(fault);
    case PageState::kRemote:
      return fetch(fault);
    case PageState::kFetching:
      return leave_to_fetcher(fault);
    case PageState::kFilling:
      return Outcome::kDefer;
    case PageState::kClean:
    case PageState::kDirty:
    case PageState::kLeaving:
      if (fault.kind == Fault::Kind::kWriteProtected) return make_writable(fault, status);
      if (fault.kind == Fault::Kind::kMinor) return map_resident(fault, status);
      return settle_late(fault);
    case PageState::kLost:
      return poison(fault);
  }
  return Outcome::kDone;
}

// Another shard's fault may wait for it: its thread would sleep on, for nobody evicts while there is budget.
void FaultServer::give_budget(uint64_t pages) {
  if (state_.give_budget(pages)) backend_.wake_fault_threads();
}

FaultServer::Outcome FaultServer::fill_with_zeros(const Fault& fault) {
  if (!state_.budget.try_take(1)) return Outcome::kDeferForBudget;
  if (!state_.table.begin_fill(fault.page)) {
    give_budget(1);
    return Outcome::kDefer;
  }
  InstallOutcome outcome = state_.memory.zero_page(fault.page);
  if (outcome == InstallOutcome::kFailed) return refuse(fault);
  if (outcome != InstallOutcome::kInstalled) {
    state_.table.abort_fill(fault.page);
    give_budget(1);
    if (outcome == InstallOutcome::kAlreadyPresent) drop_foreign_page(fault.page);
    return outcome == InstallOutcome::kGone ? Outcome::kDone : Outcome::kDefer;  // gone: with the thread that waits
  }
  state_.table.finish_fetch(fault.page, PageTable::Arrival::kDirty);
  state_.counters.faults_zero.add();
  finish(fault, monotonic_ns());
  return Outcome::kDone;
}

FaultServer::Outcome FaultServer::fetch(const Fault& fault) {
  if (free_slots_.empty()) return Outcome::kDefer;
  if (!state_.budget.try_take(1)) return Outcome::kDeferForBudget;
  if (!state_.table.begin_fetch(fault.page)) {
    give_budget(1);
    return Outcome::kDefer;
  }
  state_.remote_pages.fetch_sub(1);
  state_.counters.faults_remote.add();
  uint32_t index = free_slots_.back();
  free_slots_.pop_back();
  slots_[index] = Slot{fault, 1, true, false, {}};
  FaultTrace::mark(state_.counters.last_demand.read, fault.since_ns);
  FaultTrace::mark(state_.counters.last_demand.decided, monotonic_ns());
  // While nobody can be asked the page stays Fetching, and its thread asleep: it reads nothing wrong.
  if (!backend_.start_read(fault.page, index, false)) return Outcome::kDone;
  // Only now, with the demand read on its way, is there time to think ahead.
  prefetcher_.on_fault(fault.page);
  fetch_ahead();
  return Outcome::kDone;
}

// The order matters: see PagerState::fetch_waits.
FaultServer::Outcome FaultServer::leave_to_fetcher(const Fault& fault) {
  state_.fetch_waits.fetch_add(1);
  if (state_.table.get(fault.page).state != PageState::kFetching) return Outcome::kDefer;
  if (!prefetcher_.on_late(fault.page)) return Outcome::kDone;
  state_.counters.prefetch_late.add();
  fetch_ahead();
  return Outcome::kDone;
}

FaultServer::Outcome FaultServer::make_writable(const Fault& fault, PageStatus status) {
  // Dirty before un-protect: a write after the un-protect raises no fault, so the reverse order could lose it. Busy in
  // between: else an eviction could protect the page first, and our un-protect would let a write slip past it.
  if (!state_.table.begin_dirty(fault.page)) return Outcome::kDefer;
  InstallOutcome outcome = state_.memory.unprotect(fault.page);
  state_.table.release(fault.page);
  if (outcome == InstallOutcome::kFailed) return refuse(fault);
  if (outcome == InstallOutcome::kRetry) return Outcome::kDefer;
  if (status.state == PageState::kLeaving) state_.counters.taken_back.add();
  state_.counters.faults_protect.add();
  finish(fault, monotonic_ns());
  return Outcome::kDone;
}

FaultServer::Outcome FaultServer::map_resident(const Fault& fault, PageStatus status) {
  const bool read_only = status.state == PageState::kClean && !fault.write && state_.memory.can_map_protected();
  bool begun = read_only ? state_.table.begin_map(fault.page) : state_.table.begin_dirty(fault.page);
  if (!begun) return Outcome::kDefer;
  InstallOutcome outcome = state_.memory.map(fault.page, read_only);
  state_.table.release(fault.page);
  if (outcome == InstallOutcome::kFailed) return refuse(fault);
  if (outcome == InstallOutcome::kNoPage) return settle_late(fault);
  if (outcome == InstallOutcome::kRetry) return Outcome::kDefer;
  if (outcome == InstallOutcome::kAlreadyPresent) state_.memory.wake({fault.page, 1});
  if (status.state == PageState::kLeaving) state_.counters.taken_back.add();
  state_.counters.faults_minor.add();
  finish(fault, monotonic_ns());
  if (status.trigger) count_used(fault.page);
  return Outcome::kDone;
}

void FaultServer::count_used(PageNumber trigger) {
  std::optional<PrefetchWindow> used = prefetcher_.on_trigger(trigger);
  fetch_ahead();
  if (!used) return;
  for (uint64_t i = 0; i < used->count; ++i) {
    if (state_.table.take_prefetched(used->page(i))) state_.counters.prefetch_used.add();
  }
}

// Asks for the windows that have become due, after learning from those that left untouched.
void FaultServer::fetch_ahead() {
  if (uint64_t wasted = state_.take_waste(shard_)) prefetcher_.on_waste(wasted);
  while (std::optional<PrefetchWindow> window = prefetcher_.next_window()) {
    // The touch of the trigger will be seen by the shard that has it. Told first, so that it knows in time.
    const unsigned shard = state_.stripes.shard_of(window->page(window->trigger));
    if (shard != shard_) backend_.hand_stream(shard, prefetcher_.last_stream());
    backend_.prefetch(*window);
  }
  if (prefetcher_.paused() == paused_) return;
  paused_ = !paused_;
  if (paused_) {
    state_.counters.prefetch_pauses.add();
    state_.prefetch_paused.fetch_add(1);
  } else {
    state_.prefetch_paused.fetch_sub(1);
  }
}

// The page is resident, but the event says that it is missing. Its thread faulted before the page was put in place, so
// waking it is all. If there really is a hole, somebody is discarding the page and the event that says so is about to
// come; if none comes, the bytes are gone.
FaultServer::Outcome FaultServer::settle_late(const Fault& fault) {
  if (!state_.memory.is_hole(fault.page)) {
    state_.counters.faults_late.add();
    state_.memory.wake({fault.page, 1});
    return Outcome::kDone;
  }
  if (monotonic_ns() - fault.since_ns < kHolePatienceNs) return Outcome::kDefer;
  lose(fault.page,
       "a page of guest memory was discarded behind the pager's back (a device or program that shares the "
       "guest's memory did it)");
  return Outcome::kDone;
}

Result<void> FaultServer::on_read_reply(uint64_t slot_number, wire::Status status, std::span<const std::byte> body) {
  if (slot_number >= kSlots || !slots_[slot_number].used) {
    return Error{ErrorCode::kProtocol, 0, "the donor answered a read that was not asked"};
  }
  const uint32_t index = static_cast<uint32_t>(slot_number);
  Slot& slot = slots_[index];
  if (status != wire::Status::kOk) {
    try_again(index, fmt::format("the donor refused a read: {}", wire::decode_text(body)));
    return {};
  }
  wire::PageSetView pages = HEC_TRY(wire::PageSetView::decode(body));
  const std::byte* bytes = nullptr;
  if (std::string defect = defect_of(slot, pages, &bytes); !defect.empty()) {
    try_again(index, defect);
    return {};
  }
  if (slot.damaged) {
    // Good bytes after bad ones: the page becomes Dirty, and is written anew to all of its donors when it leaves.
    slot.fault.write = true;
    state_.counters.repaired.add();
  }
  if (discard_waits(slot.fault.page)) {
    drop_discarded(index);
  } else {
    install(slot, index, bytes);
  }
  return {};
}

// The bytes may have been damaged on the way; what this donor holds may still be good, or what another one does.
void FaultServer::try_again(uint32_t index, const std::string& defect) {
  Slot& slot = slots_[index];
  slot.damaged = true;
  const CopySet copies = state_.placement.copies_of(extent_of(slot.fault.page));
  if (copies.completes_more_than(slot.copies)) slot.attempts = 1;  // the new one has not been asked yet
  slot.copies = copies;
  if (slot.attempts++ < kMaxAttempts * static_cast<int>(std::max<size_t>(1, copies.size()))) {
    state_.counters.refetched.add();
    (void)backend_.start_read(slot.fault.page, index, true);
    return;
  }
  slot.attempts = 1;
  if (backend_.wait_for_copy(slot.fault.page, index)) return;
  const Fault fault = slot.fault;
  free_slot(index);
  lose(fault.page, at_donor(defect, fault.page));
  if (state_.on_loss == OnLoss::kPoison) defer(fault, Outcome::kDefer);
}

void FaultServer::give_up_read(uint32_t index) {
  const Fault fault = slots_[index].fault;
  free_slot(index);
  lose(fault.page, "all donors that had a page are lost");
  if (state_.on_loss == OnLoss::kPoison) defer(fault, Outcome::kDefer);
}

FaultServer::Outcome FaultServer::poison(const Fault& fault) {
  const InstallOutcome outcome = state_.memory.poison(fault.page);
  if (outcome == InstallOutcome::kRetry) return Outcome::kDefer;
  if (outcome == InstallOutcome::kAlreadyPresent) state_.memory.wake({fault.page, 1});
  return Outcome::kDone;
}

// Empty if the answer is the page that the table promises, in its version, intact: then `bytes` are the page.
std::string FaultServer::defect_of(const Slot& slot, const wire::PageSetView& pages, const std::byte** bytes) {
  if (pages.size() != 1 || pages.entry(0).page != slot.fault.page) return "the donor answered with another page";
  wire::PageEntry entry = pages.entry(0);
  if (entry.state != wire::PageState::kPresent) return "the donor no longer has a page that it acknowledged";
  uint32_t version = state_.table.get(slot.fault.page).version;
  if (entry.version != version) return "the donor has only an older version of a page";
  const std::span<const std::byte> stored = pages.stored(0);
  if (wire::page_checksum(stored, slot.fault.page, version) != entry.checksum) {
    return "a page came back from the donor with a wrong checksum";
  }
  return unpack(slot.fault.page, version, stored, bytes);
}

// The same, of bytes that are as the donor says they are.
std::string FaultServer::unpack(PageNumber page, uint32_t version, std::span<const std::byte> stored,
                                const std::byte** bytes) {
  if (seal_) {
    if (!seal_->open(page, version, stored, opened_.data())) {
      note_bad_seal(page);
      return kBadSeal;
    }
    stored = std::span(opened_).first(stored.size());
  }
  *bytes = stored.data();
  if (stored.size() == kPageBytes) return {};
  if (!decompress_page(stored, unpacked_)) return "a page came back from the donor that cannot be decompressed";
  *bytes = unpacked_.data();
  return {};
}

std::string FaultServer::at_donor(const std::string& defect, PageNumber page) {
  return fmt::format("{}: page at guest offset {:#x}, donor {}", defect, page.value * kPageBytes,
                     backend_.answering_donor());
}

// Another copy may be good, and the guest goes on: which donor is not to be trusted is said all the same.
void FaultServer::note_bad_seal(PageNumber page) {
  constexpr int64_t kWarnEveryNs = 1'000'000'000;
  state_.counters.bad_seals.add();
  const int64_t now = monotonic_ns();
  if (warned_ns_ != 0 && now - warned_ns_ < kWarnEveryNs) return;
  warned_ns_ = now;
  event_log().warn("{}", at_donor(kBadSeal, page));
}

void FaultServer::install(Slot& slot, uint32_t index, const std::byte* bytes) {
  const Fault fault = slot.fault;
  uint64_t done = 0;
  if (fault.write) state_.table.mark_writable(fault.page);
  InstallOutcome outcome = state_.memory.copy({fault.page, 1}, bytes, !fault.write, true, &done);
  const int64_t installed_ns = monotonic_ns();
  FaultTrace::mark(state_.counters.last_demand.installed, installed_ns);
  free_slot(index);
  if (outcome == InstallOutcome::kFailed) {
    refuse(fault);
    return;
  }
  if (outcome != InstallOutcome::kInstalled) {
    // An event must be read first: give the page back and begin anew. (If the guest is gone, so is the thread that
    // waits.)
    state_.table.abort_fetch(fault.page);
    state_.remote_pages.fetch_add(1);
    give_budget(1);
    if (outcome == InstallOutcome::kAlreadyPresent) drop_foreign_page(fault.page);
    if (outcome != InstallOutcome::kGone) defer(fault, Outcome::kDefer);
    return;
  }
  // After the wake, and yet in time: an event of the woken thread is read by this same thread, later.
  state_.table.finish_fetch(fault.page, fault.write ? PageTable::Arrival::kDirty : PageTable::Arrival::kClean);
  if (!fault.write) state_.settle_clean(fault.page);
  finish(fault, installed_ns);
}

// Something that is not the guest made a page here, while the table says that it is Absent or Remote: the table is the
// authority. The page is dropped rather than written over: if this process dies, then a page that is there is whole.
void FaultServer::drop_foreign_page(PageNumber page) {
  if (!state_.table.begin_gap(page)) return;
  HEC_CHECK(state_.memory.punch({page, 1}).ok());
  state_.table.release(page);
}

void FaultServer::finish(const Fault& fault, int64_t now_ns) {
  int64_t took_ns = now_ns - fault.since_ns;
  state_.counters.fault_us.record(static_cast<uint64_t>(took_ns < 0 ? 0 : took_ns) / 1000);
}

void FaultServer::defer(const Fault& fault, Outcome outcome) {
  if (outcome == Outcome::kDeferForBudget) backend_.wake_evictor();
  if (outcome == Outcome::kDefer) waiting_soon_ = true;
  if (deferred_.size() < kMaxDeferred) {
    deferred_.push_back(fault);
  } else {
    wake_everything_ = true;  // dropped events cost a second fault, no more
  }
}

bool FaultServer::retry_deferred() {
  if (deferred_.empty() && pending_discards_.empty() && !wake_everything_) return false;
  waiting_soon_ = false;
  // Before the tries: budget that is freed after a try fails must find the flag up, and wake this thread.
  state_.fault_stalled.store(true);
  std::swap(pending_discards_, retrying_discards_);
  for (PageRun run : retrying_discards_) discard(run);
  retrying_discards_.clear();
  std::swap(deferred_, retrying_);
  for (const Fault& fault : retrying_) {
    Outcome outcome = try_serve(fault);
    if (outcome != Outcome::kDone) defer(fault, outcome);
  }
  retrying_.clear();
  if (wake_everything_ && deferred_.empty()) {
    wake_everything_ = false;
    state_.memory.wake({PageNumber(0), state_.table.pages()});
  }
  return waiting_soon_ || !pending_discards_.empty();
}

void FaultServer::free_slot(uint32_t index) {
  slots_[index].used = false;
  free_slots_.push_back(index);
}

// The kernel cannot give the page, for a memory error or an I/O error of its own.
FaultServer::Outcome FaultServer::refuse(const Fault& fault) {
  lose(fault.page, "the kernel could not put a page of guest memory in place (a memory error? see dmesg)");
  return Outcome::kDone;
}

// If the guest is to be stopped nobody is woken: whoever waits for the page sleeps until the guest is ended, and reads
// nothing wrong.
void FaultServer::lose(PageNumber page, std::string reason) {
  const PageState state = state_.table.get(page).state;
  if (state_.on_loss == OnLoss::kPoison && state_.table.lose(page)) {
    if (state != PageState::kRemote) give_budget(1);
    if (state == PageState::kRemote) state_.remote_pages.fetch_sub(1);
  }
  state_.counters.lost.add();
  backend_.report_loss(LossReport{std::move(reason), {PageRun{page, 1}}, 1, {}});
}

}  // namespace hecaton
