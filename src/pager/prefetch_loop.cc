#include <sched.h>

#include <algorithm>

#include "base/clock.h"
#include "pager/loops.h"

namespace hecaton {
namespace {

constexpr uint64_t kNudgeToken = UINT64_MAX;
// Between tries of a window that waits for budget.
constexpr int kSoonMs = 1;
// How long to look for an answer or a window before sleeping, if they have been coming that fast.
constexpr int64_t kSpinNs = 200'000;

}  // namespace

Result<std::unique_ptr<PrefetchLoop>> PrefetchLoop::create(LoopContext context) {
  Poller poller = HEC_TRY(Poller::create());
  Nudge nudge = HEC_TRY(Nudge::create());
  HEC_TRY(poller.add(nudge.fd(), EPOLLIN, kNudgeToken));
  HEC_TRY(context.pool.prefetch_links().watch(poller));
  return std::unique_ptr<PrefetchLoop>(new PrefetchLoop(context, std::move(poller), std::move(nudge)));
}

PrefetchLoop::PrefetchLoop(LoopContext context, Poller poller, Nudge nudge)
    : context_(context),
      routes_(context, {[this] {
                          for (Nudge* fault : fault_nudges_) fault->always();
                        },
                        [this] {
                          if (evict_nudge_) (*evict_nudge_)();
                        }}),
      poller_(std::move(poller)),
      nudge_(std::move(nudge)),
      spin_(kSpinNs),
      queues_(context.state.stripes.shards()) {}

void PrefetchLoop::offer(unsigned shard, const PrefetchWindow& window) {
  queues_[shard].with([&](Queue& queue) {
    if (queue.count == queue.windows.size()) return;
    queue.windows[(queue.first + queue.count++) % queue.windows.size()] = window;
  });
  nudge_();
}

bool PrefetchLoop::take(PrefetchWindow* window) {
  auto take_from = [window](Queue& queue) {
    if (queue.count == 0) return false;
    *window = queue.windows[queue.first];
    queue.first = (queue.first + 1) % queue.windows.size();
    --queue.count;
    return true;
  };
  for (size_t looked = 0; looked < queues_.size(); ++looked) {
    Guarded<Queue>& queue = queues_[next_queue_];
    next_queue_ = (next_queue_ + 1) % queues_.size();
    if (queue.with(take_from)) return true;
  }
  return false;
}

bool PrefetchLoop::queues_empty() const {
  auto empty = [](const Queue& queue) { return queue.count == 0; };
  return std::all_of(queues_.begin(), queues_.end(), [&](const Guarded<Queue>& queue) { return queue.with(empty); });
}

void PrefetchLoop::run() {
  while (!context_.ended()) {
    heart_.beat();
    if (routes_.changes_due()) routes_.see_changes();
    const bool worked = read_replies(0);
    if (start_windows() || worked) {
      spin_.busy(monotonic_ns());
    } else if (spin_.idle(monotonic_ns())) {
      sched_yield();
    } else {
      sleep();
    }
  }
}

// True if a window was started.
bool PrefetchLoop::start_windows() {
  bool started = false;
  PrefetchWindow window;
  PrefetchWorker& worker = routes_.worker();
  worker.resume();
  while (!worker.waiting() && take(&window)) {
    worker.start(window);
    started = true;
  }
  return started;
}

void PrefetchLoop::sleep() {
  nudge_.about_to_sleep();
  const bool work = context_.ended() || (!queues_empty() && !routes_.worker().waiting()) || routes_.changes_due();
  read_replies(work ? 0 : routes_.worker().waiting() ? kSoonMs : -1);
  nudge_.awake();
}

// True if a donor had something to say.
bool PrefetchLoop::read_replies(int timeout_ms) {
  if (timeout_ms < 0 && routes_.any_owed()) timeout_ms = SilenceWatch::kCheckMs;
  bool any = false;
  size_t count = poller_.wait(events_, timeout_ms);
  for (size_t i = 0; i < count && !context_.ended(); ++i) {
    const uint64_t donor = events_[i].data.u64;
    if (donor == kNudgeToken) {
      nudge_.awake();
      continue;
    }
    any = true;
    routes_.receive(donor);
  }
  routes_.check_patience();
  return any;
}

}  // namespace hecaton
