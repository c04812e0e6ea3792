#include <sched.h>

#include "base/clock.h"
#include "pager/loops.h"

namespace hecaton {
namespace {

constexpr uint64_t kNudgeToken = UINT64_MAX;
// While there is something to evict now and then, this thread looks by itself, so that the fault thread need not wake
// it: waking a thread on an idle processor costs the waker more than serving a fault.
constexpr int64_t kLookEveryNs = 200'000;
constexpr int64_t kLookForNs = 20'000'000;
// How long to look for an acknowledgement before sleeping, if they have been coming that fast.
constexpr int64_t kSpinNs = 200'000;
// How long to wait before asking again for pages that were all in somebody's hands.
constexpr int64_t kAllBusyNs = 1'000'000;

}  // namespace

Result<std::unique_ptr<EvictLoop>> EvictLoop::create(LoopContext context) {
  Poller poller = HEC_TRY(Poller::create());
  Nudge nudge = HEC_TRY(Nudge::create());
  HEC_TRY(poller.add(nudge.fd(), EPOLLIN, kNudgeToken));
  HEC_TRY(context.pool.watch_write_back(poller));
  return std::unique_ptr<EvictLoop>(new EvictLoop(context, std::move(poller), std::move(nudge)));
}

EvictLoop::EvictLoop(LoopContext context, Poller poller, Nudge nudge)
    : context_(context),
      watch_(context.pool.donors()),
      evictor_(context.state, *this, context.compression),
      poller_(std::move(poller)),
      nudge_(std::move(nudge)),
      spin_(kSpinNs) {}

bool EvictLoop::idle() const {
  return !evictor_.due() && !evictor_.more_discards() && evictor_.in_flight() == 0;
}

void EvictLoop::run() {
  int64_t last_work_ns = 0;
  while (!context_.ended()) {
    if (!idle()) {
      last_work_ns = monotonic_ns();
    } else if (monotonic_ns() - last_work_ns < kLookForNs) {
      read_replies(kLookEveryNs);
    } else {
      nudge_.about_to_sleep();
      if (idle() && !context_.ended()) read_replies(-1);
      nudge_.awake();
    }
    bool started = start_batches();
    if (started) let_others_run();
    if (watch_.owed() < Evictor::kDiscardsAtOnce) evictor_.send_discards();
    if (evictor_.in_flight() > 0 || watch_.owed() >= Evictor::kDiscardsAtOnce) {
      const uint64_t owed = watch_.owed();
      read_replies(started || spin_.idle(monotonic_ns()) ? 0 : -1);
      if (watch_.owed() != owed) spin_.busy(monotonic_ns());
      if (!started) let_others_run();
    } else if (!started && evictor_.due()) {
      read_replies(kAllBusyNs);
    }
  }
}

// True if more may be started at once.
bool EvictLoop::start_batches() {
  for (int attempt = 0; attempt < 3; ++attempt) {
    switch (evictor_.start()) {
      case Evictor::Started::kYes:
        return true;
      case Evictor::Started::kNotDue:
        return false;
      case Evictor::Started::kAllBusy:
        break;  // every page got its second chance: the next turn takes some
      case Evictor::Started::kTryAgain:
        sched_yield();
        break;
    }
  }
  return false;
}

void EvictLoop::read_replies(int64_t timeout_ns) {
  if (timeout_ns < 0 && watch_.any_owed()) timeout_ns = int64_t{SilenceWatch::kCheckMs} * 1'000'000;
  size_t count = poller_.wait_ns(events_, timeout_ns);
  for (size_t i = 0; i < count && !context_.ended(); ++i) {
    const uint64_t donor = events_[i].data.u64;
    if (donor == kNudgeToken) {
      nudge_.awake();
      continue;
    }
    auto take = [&](const wire::FrameHeader& header, std::span<const std::byte> body) -> Result<void> {
      if (!watch_.answered(donor, monotonic_ns())) {
        return Error{ErrorCode::kProtocol, 0, "the donor answered a write that was not sent"};
      }
      if (header.request_id == kDiscardId) return {};
      return evictor_.on_write_reply(header.request_id, header.status, body);
    };
    Result<size_t> frames = context_.pool.write_back(donor).receive(take);
    if (!frames.ok()) context_.donor_lost(donor, frames.error());
  }
  context_.check_silence(watch_);
}

void EvictLoop::send_write(uint64_t batch, ExtentNumber extent, std::span<const wire::PageEntry> entries,
                           std::span<const iovec> pages) {
  const size_t donor = context_.pool.placement().place(extent);
  watch_.asked(donor, monotonic_ns());
  Result<void> sent = context_.pool.write_back(donor).send_write(batch, entries, pages);
  if (!sent.ok()) context_.donor_lost(donor, sent.error());
}

void EvictLoop::send_discard(ExtentNumber extent, std::span<const PageRun> runs) {
  std::optional<size_t> donor = context_.pool.placement().donor_of(extent);
  if (!donor) return;
  watch_.asked(*donor, monotonic_ns());
  Result<void> sent = context_.pool.write_back(*donor).send_discard(kDiscardId, runs);
  if (!sent.ok()) context_.donor_lost(*donor, sent.error());
}

void EvictLoop::let_others_run() {
  sched_yield();
}

void EvictLoop::wake_fault_threads() {
  for (Nudge* nudge : fault_nudges_) nudge->always();
}

}  // namespace hecaton
