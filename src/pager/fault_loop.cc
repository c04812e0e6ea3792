#include <sched.h>

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "pager/loops.h"

namespace hecaton {
namespace {

constexpr uint64_t kUffdToken = UINT64_MAX;
constexpr uint64_t kNudgeToken = UINT64_MAX - 1;
// How long to look for the next fault, or for an answer, before sleeping, if they have been coming that fast.
constexpr int64_t kFaultSpinNs = 50'000;
constexpr int64_t kWireSpinNs = 200'000;
constexpr uint64_t kRoundsPerSilenceCheck = 64;
constexpr uint64_t kRoundsPerYield = 8;
// Between tries of what could not be done for longer than that: memory is short, or a donor's answer is awaited.
constexpr int kSoonMs = 1;
// While an answer is awaited that another donor could give as well.
constexpr int kHedgeCheckMs = 2;

}  // namespace

Result<Nudge> Nudge::create() {
  return Nudge(HEC_TRY(WakeFlag::create()));
}

Result<std::unique_ptr<FaultLoop>> FaultLoop::create(LoopContext context, unsigned shard, const Userfaultfd& uffd,
                                                     RemoteAddress base, Prefetcher prefetcher, EvictLoop& evict,
                                                     PrefetchLoop& prefetch) {
  Poller poller = HEC_TRY(Poller::create());
  Nudge nudge = HEC_TRY(Nudge::create());
  HEC_TRY(poller.add(uffd.fd(), EPOLLIN, kUffdToken));
  HEC_TRY(poller.add(nudge.fd(), EPOLLIN, kNudgeToken));
  return std::unique_ptr<FaultLoop>(
      new FaultLoop(context, shard, uffd, base, prefetcher, evict, prefetch, std::move(poller), std::move(nudge)));
}

FaultLoop::FaultLoop(LoopContext context, unsigned shard, const Userfaultfd& uffd, RemoteAddress base,
                     Prefetcher prefetcher, EvictLoop& evict, PrefetchLoop& prefetch, Poller poller, Nudge nudge)
    : context_(context),
      shard_(shard),
      uffd_(uffd),
      base_(base),
      server_(context.state, prefetcher, *this, shard),
      evict_(evict),
      prefetch_(prefetch),
      poller_(std::move(poller)),
      nudge_(std::move(nudge)),
      routes_(context, shard, server_, [this](int fd, size_t donor) { return poller_.add(fd, EPOLLIN, donor); }),
      streams_(context.state.stripes.shards()),
      fault_spin_(kFaultSpinNs),
      wire_spin_(kWireSpinNs) {}

void FaultLoop::run() {
  for (uint64_t round = 0; !context_.ended(); ++round) {
    heart_.beat();
    if (routes_.changes_due()) routes_.see_changes();
    const bool on_the_wire = routes_.any_under_way();
    // While an answer is awaited it comes before new faults, which are looked for less often.
    bool worked = routes_.any_waits() && routes_.read_replies();
    if (worked) wire_spin_.busy(routes_.last_answer_ns());
    // Now and then while there is work, too: other donors may answer, and this one not.
    if (round % kRoundsPerSilenceCheck == 0) routes_.check_patience();
    if (worked && !routes_.any_under_way()) {
      // The thread whose page has just come may wait for this very processor: it goes first, the rest can wait.
      sched_yield();
    }
    if (worked || !on_the_wire || round % kRoundsPerYield == 0) worked = read_faults() || worked;
    bool soon = server_.retry_deferred();
    if (worked || spin(round)) continue;
    routes_.check_patience();
    sleep(soon ? kSoonMs : -1);
  }
}

// There was nothing to do. True: look again at once.
bool FaultLoop::spin(uint64_t round) {
  const bool on_the_wire = routes_.any_under_way();
  // Who is to act next may wait for this very processor: the thread that will fault, the holder of a busy page, or a
  // donor on this machine. The last of them only rarely, and yielding costs as much as a look at the socket.
  if (on_the_wire && round % kRoundsPerYield != 0) return true;
  const int64_t now = monotonic_ns();
  if (!on_the_wire) neighbour_.settle(now);
  if (!(on_the_wire ? wire_spin_ : fault_spin_).idle(now)) return false;
  sched_yield();
  return true;
}

bool FaultLoop::read_faults() {
  std::array<FaultEvent, 64> events;
  Result<size_t> count = uffd_.read_events(events);
  if (!count.ok() || *count == 0) return false;
  const int64_t now = monotonic_ns();
  fault_spin_.busy(now);
  adopt_streams();
  for (size_t i = 0; i < *count; ++i) {
    const FaultEvent& event = events[i];
    neighbour_.saw(event.thread_id);
    const PageNumber page((event.address - base_.value) / kPageBytes);
    if (event.kind == FaultEvent::Kind::kOther || page.value >= context_.state.table.pages()) continue;
    if (event.kind == FaultEvent::Kind::kRemove) {
      const uint64_t end = std::min((event.end - base_.value) / kPageBytes, context_.state.table.pages());
      server_.discard({page, end - page.value});
      continue;
    }
    server_.handle({page,
                    event.kind == FaultEvent::Kind::kMissing ? Fault::Kind::kMissing
                    : event.kind == FaultEvent::Kind::kMinor ? Fault::Kind::kMinor
                                                             : Fault::Kind::kWriteProtected,
                    event.write || event.kind == FaultEvent::Kind::kWriteProtected, now});
  }
  return true;
}

void FaultLoop::sleep(int timeout_ms) {
  std::array<epoll_event, 16> events;
  nudge_.about_to_sleep();
  if (timeout_ms < 0 && routes_.any_under_way() && context_.pool.placement().wanted() > 1) timeout_ms = kHedgeCheckMs;
  if (timeout_ms < 0 && routes_.any_owed()) timeout_ms = SilenceWatch::kCheckMs;
  const bool work = context_.ended() || routes_.changes_due();
  size_t count = poller_.wait(events, work ? 0 : timeout_ms);
  nudge_.awake();
  for (size_t i = 0; i < count; ++i) {
    routes_.read_unasked(events[i].data.u64);
  }
}

void FaultLoop::prefetch(const PrefetchWindow& window) {
  prefetch_.offer(shard_, window);
}

void FaultLoop::hand_stream(unsigned shard, const Prefetcher::Stream& stream) {
  peers_[shard]->receive_stream(shard_, stream);
}

// This thread may be asleep. It looks before it serves a fault, and the stream is of no use before that.
void FaultLoop::receive_stream(unsigned from, const Prefetcher::Stream& stream) {
  streams_[from].put(stream);
  streams_came_.store(true);
}

void FaultLoop::adopt_streams() {
  if (!streams_came_.load() || !streams_came_.exchange(false)) return;
  Prefetcher::Stream stream;
  for (StreamChute& chute : streams_) {
    while (chute.take(&stream)) server_.adopt(stream);
  }
}

void FaultLoop::wake_evictor() {
  evict_.nudge()();
}

// Itself, too: what it has given back may be what an earlier fault of its own waits for.
void FaultLoop::wake_fault_threads() {
  for (FaultLoop* peer : peers_) peer->nudge_.always();
}

void FaultLoop::report_loss(LossReport report) {
  context_.loss.report(report);
}

}  // namespace hecaton
