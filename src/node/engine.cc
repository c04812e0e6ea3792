#include "node/engine.h"

#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>

#include "base/check.h"
#include "base/clock.h"

namespace hecaton::node {
namespace {

using coherence::Access;
using coherence::ActionKind;

constexpr uint64_t kUffdToken = UINT64_MAX;
constexpr uint64_t kWakeToken = UINT64_MAX - 1;
// How long to look for an answer before sleeping, if they have been coming that fast.
constexpr int64_t kWireSpinNs = 200'000;
// How long to look for what others ask, if they have been asking that fast.
constexpr int64_t kWorkSpinNs = 100'000;
constexpr uint64_t kRoundsPerLook = 256;
// A node says that it is there so often, and looks for the silence of others.
constexpr int64_t kLookEveryNs = 100'000'000;
// Such a pause of our own is not the others' silence.
constexpr int64_t kOwnPauseNs = 3 * kLookEveryNs;

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(EngineConfig config, CoherentMemory& memory,
                                               std::vector<PeerLink> links) {
  HEC_CHECK(links.size() + 1 == config.core.homes.nodes() && memory.pages() == config.core.homes.pages());
  Poller poller = HEC_TRY(Poller::create());
  WakeFlag wake = HEC_TRY(WakeFlag::create());
  HEC_TRY(poller.add(memory.uffd().fd(), EPOLLIN, kUffdToken));
  HEC_TRY(poller.add(wake.fd(), EPOLLIN, kWakeToken));
  for (size_t i = 0; i < links.size(); ++i) {
    for (Lane lane : {Lane::kUrgent, Lane::kPages}) {
      HEC_TRY(poller.add(links[i].stream(lane).fd(), EPOLLIN, i * wire::kLanes + static_cast<size_t>(lane)));
    }
  }
  return std::unique_ptr<Engine>(
      new Engine(std::move(config), memory, std::move(links), std::move(poller), std::move(wake)));
}

Engine::Engine(EngineConfig config, CoherentMemory& memory, std::vector<PeerLink> links, Poller poller, WakeFlag wake)
    : self_(config.core.self),
      config_(std::move(config)),
      memory_(memory),
      core_(config_.core),
      links_(std::move(links)),
      heard_ns_(links_.size(), monotonic_ns() + config_.first_word_ms * 1'000'000),
      wants_room_(links_.size()),
      poller_(std::move(poller)),
      wake_(std::move(wake)),
      processors_(config_.core.processors),
      wire_spin_(kWireSpinNs),
      work_spin_(kWorkSpinNs) {
  actions_.reserve(256);
}

void Engine::run() {
  // A page is kept for tens of microseconds: a timer that is late by as much would double that.
  prctl(PR_SET_TIMERSLACK, 1UL);
  (void)want_short_slices();
  now_ns_ = looked_ns_ = monotonic_ns();
  while (!ended_) {
    now_ns_ = monotonic_ns();
    ++rounds_;
    woke_ = false;
    bool worked = poll(0);
    worked = run_timer() || worked;
    if (rounds_ % kRoundsPerLook == 0) look_after_peers();
    if (stop_asked_.load()) finish({StopReason::Kind::kAsked, self_, {ErrorCode::kClosed, 0, ""}, 0});
    if (ended_ || (worked && !woke_)) continue;
    // Who was woken may wait for this very processor: sleeping gives it away, and gets it back at the next event.
    if (!(woke_ ? step_aside() : spin())) sleep();
  }
  links_.clear();
}

// There was nothing to do. True: look again at once.
bool Engine::spin() {
  // Until a page may leave, whoever keeps it runs, perhaps here: sleep, so that the timer takes the processor back.
  if (timer_ns_ != INT64_MAX) return false;
  if (!processors_.any_waits()) {
    if (config_.seek_neighbour) neighbour_.settle(now_ns_);
    return step_aside();
  }
  if (!wire_spin_.idle(now_ns_)) return false;
  // Who is to answer may share the processor.
  if (yield_spin_.may(now_ns_)) yield();
  return true;
}

// Somebody may want the processor more. False: better to sleep, and be woken.
bool Engine::step_aside() {
  if (timer_ns_ != INT64_MAX || !work_spin_.idle(now_ns_) || !yield_spin_.may(now_ns_)) return false;
  yield();
  return true;
}

void Engine::yield() {
  const int64_t before_ns = monotonic_ns();  // what this round did took its time, too
  sched_yield();
  const int64_t after_ns = monotonic_ns();
  yield_spin_.yielded(after_ns - before_ns, after_ns);
}

void Engine::sleep() {
  look_after_peers();
  if (ended_ || stop_asked_.load()) return;
  const int64_t until_ns = std::min(timer_ns_, looked_ns_ + kLookEveryNs);
  if (poll(std::max<int64_t>(0, until_ns - now_ns_))) return;
  now_ns_ = monotonic_ns();
  // Nothing happened for as long as that: time to give memory back.
  if (now_ns_ - looked_ns_ < kLookEveryNs) return;
  Result<bool> more = memory_.trim();
  if (!more.ok()) finish({StopReason::Kind::kBroken, self_, more.error(), 0});
}

bool Engine::poll(int64_t timeout_ns) {
  std::array<epoll_event, 16> events;
  const size_t count = poller_.wait_ns(events, timeout_ns);
  if (count == 0) return false;
  if (timeout_ns != 0) now_ns_ = monotonic_ns();
  bool worked = false;
  for (size_t i = 0; i < count && !ended_; ++i) {
    const uint64_t token = events[i].data.u64;
    if (token == kUffdToken) {
      worked = read_faults() || worked;
    } else if (token == kWakeToken) {
      wake_.clear();
    } else {
      PeerLink& link = links_[token / wire::kLanes];
      const Lane lane = static_cast<Lane>(token % wire::kLanes);
      link.flush(lane);
      worked = read_link(link, lane) || worked;
      if (!ended_) watch_for_room(link);
    }
  }
  if (worked) {
    wire_spin_.busy(now_ns_);
    work_spin_.busy(now_ns_);
  }
  return worked;
}

bool Engine::read_faults() {
  std::array<FaultEvent, 64> events;
  Result<size_t> count = memory_.uffd().read_events(events);
  if (!count.ok()) finish({StopReason::Kind::kBroken, self_, count.error(), 0});
  if (!count.ok() || *count == 0) return false;
  counts_.faults.fetch_add(*count, std::memory_order_relaxed);  // a figure, which orders nothing
  for (size_t i = 0; i < *count && !ended_; ++i) {
    const FaultEvent& event = events[i];
    if (event.kind == FaultEvent::Kind::kOther || event.kind == FaultEvent::Kind::kRemove) continue;
    const PageNumber page = memory_.page_at(event.address);
    if (page.value >= memory_.pages()) continue;
    const bool writes = event.write || event.kind == FaultEvent::Kind::kWriteProtected;
    const ProcessorNumber processor = processors_.number_of(event.thread_id);
    neighbour_.saw(event.thread_id);
    processors_.waits(processor, page, now_ns_);
    Result<void> told = core_.fault(processor, page, writes ? Access::kWrite : Access::kRead, now_ns_, actions_);
    if (!told.ok()) return finish({StopReason::Kind::kBroken, self_, told.error(), 0}), true;
    perform_all(nullptr);
  }
  return true;
}

bool Engine::read_link(PeerLink& link, Lane ready) {
  bool worked = false;
  const size_t number = static_cast<size_t>(&link - links_.data());
  for (bool came = true; came && !ended_;) {
    if (link.receive(ready)) heard_ns_[number] = now_ns_;
    // What comes on one lane may be what the other waits for.
    for (bool taken = true; taken && !ended_;) {
      taken = false;
      for (Lane lane : {Lane::kUrgent, Lane::kPages}) {
        Result<std::optional<PeerLink::Arrival>> next = link.next(lane);
        if (!next.ok()) return lose(link.peer(), next.error()), true;
        if (!next->has_value()) continue;
        taken = true;
        worked = take(link, **next) || worked;
        if (ended_) return true;
      }
    }
    came = link.may_have_more(ready);
    // A lane that was full of what had to wait may have room now. TLS may hold the rest: no event would tell.
    if (came || !link.may_have_more(other(ready))) continue;
    ready = other(ready);
    came = true;
  }
  if (!ended_ && link.ended()) {
    // The other lane may have said farewell.
    if (link.receive(other(ready))) return read_link(link, other(ready));
    const char* why = link.why_ended();
    lose(link.peer(), {why ? ErrorCode::kUntrusted : ErrorCode::kClosed, 0, why ? why : "its connection ended"});
  }
  return worked;
}

bool Engine::take(PeerLink& link, const PeerLink::Arrival& arrival) {
  if (arrival.frame.kind == wire::FrameKind::kAlive) return false;
  if (arrival.frame.kind == wire::FrameKind::kFarewell) {
    const bool orderly = arrival.frame.node == link.peer();
    finish({orderly ? StopReason::Kind::kEnded : StopReason::Kind::kReported,
            arrival.frame.node,
            {ErrorCode::kClosed, 0, ""},
            0,
            link.peer()});
    return true;
  }
  if (arrival.message.kind == coherence::Kind::kUpgrade) {
    counts_.upgrades.fetch_add(1, std::memory_order_relaxed);
  }
  Result<void> told = core_.receive(link.peer(), arrival.message, now_ns_, actions_);
  if (!told.ok()) return lose(link.peer(), told.error()), true;
  perform_all(&arrival);
  return true;
}

bool Engine::run_timer() {
  if (timer_ns_ > now_ns_) return false;
  timer_ns_ = INT64_MAX;
  Result<void> told = core_.timer(now_ns_, actions_);
  if (!told.ok()) return finish({StopReason::Kind::kBroken, self_, told.error(), 0}), true;
  perform_all(nullptr);
  // The core tells a time only when it changes.
  if (timer_ns_ == INT64_MAX) timer_ns_ = core_.timer_ns();
  return true;
}

void Engine::perform_all(const PeerLink::Arrival* cause) {
  for (size_t i = 0; i < actions_.size() && !ended_; ++i) {
    Result<void> done = perform(actions_[i], cause);
    if (!done.ok()) finish({StopReason::Kind::kBroken, self_, done.error(), 0});
  }
  actions_.clear();
}

Result<void> Engine::perform(const coherence::Action& action, const PeerLink::Arrival* cause) {
  const PageNumber page = action.page;
  switch (action.kind) {
    case ActionKind::kSend:
      send(action.to, action.message);
      return {};
    case ActionKind::kKeep:
      HEC_CHECK(cause != nullptr);
      memory_.keep(page, cause->page);
      return {};
    case ActionKind::kMakeZero:
      counts_.zero_pages.fetch_add(1, std::memory_order_relaxed);
      memory_.make_zero(page);
      return {};
    case ActionKind::kMapRead:
    case ActionKind::kMapWrite:
      processors_.came(page, now_ns_);
      woke_ = true;
      return action.kind == ActionKind::kMapRead ? memory_.map_read(page) : memory_.map_write(page);
    case ActionKind::kProtect:
      return memory_.protect(page);
    case ActionKind::kZap:
      return memory_.zap(page);
    case ActionKind::kDrop:
      return memory_.drop(page);
    case ActionKind::kTimer:
      timer_ns_ = action.at_ns;
      return {};
    case ActionKind::kFail:
      // A home tells us before we hear of the node's loss that is behind it.
      finish({StopReason::Kind::kBroken,
              self_,
              {ErrorCode::kNotFound, 0, "a page's newest bytes were lost with a node"},
              0});
      return {};
  }
  return {};
}

void Engine::send(NodeId to, const coherence::Message& message) {
  PeerLink& link = link_to(to);
  counts_.messages.fetch_add(1, std::memory_order_relaxed);
  if (message.carries_page) counts_.pages.fetch_add(1, std::memory_order_relaxed);
  const uint64_t before = link.bytes_sent();
  link.send(message, message.carries_page ? memory_.bytes(message.page).data() : nullptr);
  link.sent_at(now_ns_);
  counts_.bytes.fetch_add(link.bytes_sent() - before, std::memory_order_relaxed);
  watch_for_room(link);
}

// If the link has ended, that is seen when it is read.
void Engine::watch_for_room(PeerLink& link) {
  const size_t number = static_cast<size_t>(&link - links_.data());
  for (Lane lane : {Lane::kUrgent, Lane::kPages}) {
    bool& wants = wants_room_[number][static_cast<size_t>(lane)];
    if (wants == link.has_unsent(lane)) continue;
    wants = !wants;
    const uint32_t events = EPOLLIN | (wants ? static_cast<uint32_t>(link.stream(lane).send_events()) : 0u);
    (void)poller_.modify(link.stream(lane).fd(), events, number * wire::kLanes + static_cast<size_t>(lane));
  }
}

void Engine::look_after_peers() {
  now_ns_ = monotonic_ns();
  if (now_ns_ - looked_ns_ < kLookEveryNs) return;
  const int64_t since_ns = now_ns_ - looked_ns_;
  const int64_t paused_ns = since_ns > kOwnPauseNs ? since_ns - kLookEveryNs : 0;
  looked_ns_ = now_ns_;
  for (size_t i = 0; i < links_.size() && !ended_; ++i) {
    heard_ns_[i] += paused_ns;
    if (now_ns_ - heard_ns_[i] > config_.silence_ms * 1'000'000) {
      lose(links_[i].peer(), {ErrorCode::kTimeout, 0, "it has been silent for too long"});
      return;
    }
    if (now_ns_ - links_[i].last_sent_ns() < kLookEveryNs) continue;
    links_[i].send_alive();
    links_[i].sent_at(now_ns_);
    watch_for_room(links_[i]);
  }
}

}  // namespace hecaton::node
