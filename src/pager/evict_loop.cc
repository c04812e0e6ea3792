#include <sched.h>

#include <algorithm>

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
  HEC_TRY(context.pool.write_back_links().watch(poller));
  return std::unique_ptr<EvictLoop>(new EvictLoop(context, std::move(poller), std::move(nudge)));
}

EvictLoop::EvictLoop(LoopContext context, Poller poller, Nudge nudge)
    : context_(context),
      keeper_(context, {[this] {
                          for (Nudge* fault : fault_nudges_) fault->always();
                        },
                        [] { sched_yield(); }}),
      poller_(std::move(poller)),
      nudge_(std::move(nudge)),
      spin_(kSpinNs) {}

bool EvictLoop::idle() const {
  const Evictor& evictor = keeper_.evictor();
  return !evictor.due() && !evictor.more_discards() && evictor.in_flight() == 0 && !keeper_.repair_due() &&
         !keeper_.changes_due();
}

void EvictLoop::run() {
  int64_t last_work_ns = 0;
  Evictor& evictor = keeper_.evictor();
  while (!context_.ended()) {
    heart_.beat();
    if (keeper_.changes_due()) keeper_.see_changes();
    keeper_.step_repair();
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
    if (started) sched_yield();
    if (keeper_.owed() < Evictor::kDiscardsAtOnce) evictor.send_discards();
    if (evictor.in_flight() > 0 || keeper_.owed() >= Evictor::kDiscardsAtOnce) {
      const uint64_t owed = keeper_.owed();
      read_replies(started || spin_.idle(monotonic_ns()) ? 0 : -1);
      if (keeper_.owed() != owed) spin_.busy(monotonic_ns());
      if (!started) sched_yield();
    } else if (!started && evictor.due()) {
      read_replies(kAllBusyNs);
    } else if (keeper_.repair_due()) {
      read_replies(keeper_.wait_for_repair_ns());
    }
  }
}

// True if more may be started at once.
bool EvictLoop::start_batches() {
  for (int attempt = 0; attempt < 3; ++attempt) {
    switch (keeper_.evictor().start()) {
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
  if (timeout_ns < 0 && keeper_.any_owed()) timeout_ns = int64_t{SilenceWatch::kCheckMs} * 1'000'000;
  size_t count = poller_.wait_ns(events_, timeout_ns);
  for (size_t i = 0; i < count && !context_.ended(); ++i) {
    const uint64_t donor = events_[i].data.u64;
    if (donor == kNudgeToken) {
      nudge_.awake();
      continue;
    }
    keeper_.receive(donor);
  }
  keeper_.check_patience();
}

}  // namespace hecaton
