#include "donor/worker.h"

#include <sched.h>

#include <algorithm>
#include <new>

#include "base/clock.h"
#include "base/log.h"
#include "os/scheduling.h"
#include "os/thread.h"

namespace hecaton::donor {
namespace {

constexpr uint64_t kWakeToken = 0;
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kLingerMs = 1000;
// Receives in a row from one connection before the others get their turn.
constexpr int kReceivesPerTurn = 8;
// How long to look for the next request before sleeping, if requests have been coming that fast.
constexpr int64_t kSpinNs = 200'000;
constexpr uint64_t kSpinsPerLook = 8;
constexpr int64_t kAsideEveryNs = 1'000'000;

class StreamSink final : public ReplySink {
 public:
  explicit StreamSink(Stream& stream) : stream_(stream) {}
  IoResult send(std::span<const iovec> pieces) override { return stream_.send(pieces); }

 private:
  Stream& stream_;
};

}  // namespace

struct Worker::Connection {
  Connection(DonorState& donor, std::unique_ptr<Stream> taken, size_t in_slot)
      : stream(std::move(taken)), sink(*stream), session(donor, sink, stream->memory_exposer()), slot(in_slot) {}

  std::unique_ptr<Stream> stream;
  StreamSink sink;
  Session session;
  const size_t slot;
  uint32_t interest = EPOLLIN;
  int64_t deadline_ns = 0;  // 0: none
  uint64_t deadline_frame = 0;
  std::optional<std::list<size_t>::iterator> stranger;  // where it stands among them
  bool unread = false;                                  // it stands in unread_
  bool ending = false;  // our side is shut; input is thrown away until the peer closes, so that it gets our last reply
};

Result<std::unique_ptr<Worker>> Worker::start(WorkerLimits limits) {
  Poller poller = HEC_TRY(Poller::create());
  WakeFlag wake = HEC_TRY(WakeFlag::create());
  HEC_TRY(poller.add(wake.fd(), EPOLLIN, kWakeToken));
  std::unique_ptr<Worker> worker(new Worker(limits, std::move(poller), std::move(wake)));
  worker->thread_ = HEC_TRY(start_thread("donor-worker", [self = worker.get()] { self->run(); }));
  return worker;
}

Worker::Worker(WorkerLimits limits, Poller poller, WakeFlag wake)
    : limits_(limits),
      poller_(std::move(poller)),
      wake_(std::move(wake)),
      spin_(kSpinNs),
      scratch_(std::make_unique_for_overwrite<std::byte[]>(kScratchBytes)) {}

Worker::~Worker() {
  begin_stop();
  join();
}

void Worker::begin_stop() {
  stop_asked_ = true;
  wake_.raise();
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::adopt(std::unique_ptr<Stream> stream, DonorState& donor) {
  ++connections_;
  letters_.with([&](auto& letters) { letters.push_back({std::move(stream), &donor}); });
  wake_.raise();
}

void Worker::run() {
  while (!finished()) {
    size_t count = serve_unread() || serve_guessed() ? 1 : 0;
    if (count == 0) {
      const bool spin = spin_.idle(monotonic_ns());
      const bool now_and_then = ++spins_ % kSpinsPerLook == 0;
      // While it spins and can guess who speaks next, the poller is asked only now and then.
      if (!spin || now_and_then || next_speaker_.guess() == NextSpeaker::kNone) {
        count = poller_.wait(events_, spin ? 0 : wait_ms());
        serve_events(count);
        if (spin && now_and_then && count == 0) {
          step_aside();
          sched_yield();
        }
      }
    }
    if (count > 0) spin_.busy(monotonic_ns());
    if (deadlines_ && monotonic_ns() >= next_check_ns_) enforce_deadlines();
  }
  slots_.clear();  // their regions end on this thread, before the table does
}

bool Worker::finished() const {
  return stopping_ && (slots_.size() == free_slots_.size() || monotonic_ns() >= stop_by_ns_);
}

int Worker::wait_ms() const {
  int64_t until = deadlines_ ? next_check_ns_ : 0;
  if (stopping_) until = until == 0 ? stop_by_ns_ : std::min(until, stop_by_ns_);
  if (until == 0) return -1;
  return static_cast<int>(std::max<int64_t>(0, (until - monotonic_ns() + kNsPerMs - 1) / kNsPerMs));
}

// A host on this machine handles its faults on the processor of the thread that faults. If that is this very one, each
// waits for the other to let go of it, while others may be idle: the kernel moves sleepers, not spinners.
void Worker::step_aside() {
  const int64_t now = monotonic_ns();
  const size_t last = next_speaker_.last();
  if (last == NextSpeaker::kNone || now < next_aside_ns_) return;
  next_aside_ns_ = now + kAsideEveryNs;
  const Connection* connection = slots_[last].get();
  if (!connection) return;
  std::optional<unsigned> peer = connection->stream->local_peer_processor();
  if (peer && static_cast<int>(*peer) == sched_getcpu()) (void)leave_processor(*peer);
}

// Looks, without asking the poller, whether the connection that most likely speaks next has. True if it had.
bool Worker::serve_guessed() {
  const size_t slot = next_speaker_.guess();
  if (slot == NextSpeaker::kNone || !spin_.is_idle()) return false;
  Connection* connection = slots_[slot].get();
  if (!connection || connection->ending || !connection->session.wants_to_receive()) {
    next_speaker_.forget();
    return false;
  }
  const uint64_t frames = connection->session.frames();
  serve(*connection, EPOLLIN);
  connection = slots_[slot].get();
  const bool spoke = !connection || connection->session.frames() != frames;
  if (spoke) next_speaker_.spoke(slot);
  return spoke;
}

// Goes on with connections of which more is here than they had a turn for. True if there were any.
bool Worker::serve_unread() {
  if (unread_.empty()) return false;
  again_.swap(unread_);
  for (size_t slot : again_) {
    // Slots are filled anew only when letters are taken, which never happens in between.
    Connection* connection = slots_[slot].get();
    if (!connection) continue;
    connection->unread = false;
    serve(*connection, EPOLLIN);
  }
  again_.clear();
  serve_events(poller_.wait(events_, 0));  // the others have their turn too
  return true;
}

void Worker::serve_events(size_t count) {
  bool woken = false;
  for (bool demand : {true, false}) {
    for (size_t i = 0; i < count; ++i) {
      uint64_t token = events_[i].data.u64;
      if (token == kWakeToken) {
        woken = true;
        continue;
      }
      // An event of this round whose connection ended in it is gone with it: slots are filled again only below.
      Connection* connection = slots_[token - 1].get();
      if (!connection || (connection->session.role() == wire::Role::kDemand) != demand) continue;
      next_speaker_.spoke(connection->slot);
      serve(*connection, events_[i].events);
    }
  }
  if (woken) take_letters();
}

void Worker::serve(Connection& connection, uint32_t events) {
  try {
    if (connection.ending) {
      discard_input(connection);
      return;
    }
    if (connection.session.wants_to_send()) {
      connection.session.flush();
    } else if ((events & (connection.interest | EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 &&
               connection.session.wants_to_receive()) {
      receive(connection);
    }
    settle(connection);
  } catch (const std::bad_alloc&) {
    event_log().warn("connection closed: no memory for its frame");
    drop(connection);
  }
}

void Worker::receive(Connection& connection) {
  Session& session = connection.session;
  for (int turn = 0; turn < kReceivesPerTurn && session.wants_to_receive(); ++turn) {
    std::span<std::byte> space = session.receive_space({scratch_.get(), kScratchBytes});
    IoResult got = connection.stream->receive(space);
    if (got.kind == IoResult::Kind::kClosed) session.peer_closed();
    if (got.kind != IoResult::Kind::kBytes) return;
    session.received(space.first(got.bytes));
    if (got.bytes < space.size()) return;  // there was no more
  }
}

// After a turn: ends what is over, and waits for the right thing.
void Worker::settle(Connection& connection) {
  if (connection.stranger && connection.session.greeted()) {
    strangers_.erase(*connection.stranger);
    connection.stranger.reset();
  }
  if (connection.session.over()) {
    begin_ending(connection);
    return;
  }
  if (connection.stream->holds_input() && connection.session.wants_to_receive() && !connection.unread) {
    connection.unread = true;
    unread_.push_back(connection.slot);
  }
  // The numbers of poll's events are epoll's too.
  const Stream& stream = *connection.stream;
  uint32_t interest =
      static_cast<uint32_t>(connection.session.wants_to_send() ? stream.send_events() : stream.receive_events());
  if (interest != connection.interest) {
    if (!poller_.modify(connection.stream->fd(), interest, connection.slot + 1).ok()) {
      drop(connection);
      return;
    }
    connection.interest = interest;
  }
  set_deadline(connection);
}

void Worker::begin_ending(Connection& connection) {
  // With input unread, a plain close makes TCP reset the connection, and the peer may lose the reply that says why.
  bool nobody_there = connection.session.peer_gone() || !connection.stream->finish_sending();
  if (nobody_there || !poller_.modify(connection.stream->fd(), EPOLLIN, connection.slot + 1).ok()) {
    drop(connection);
    return;
  }
  connection.ending = true;
  arm(connection, kLingerMs);
  discard_input(connection);
}

void Worker::discard_input(Connection& connection) {
  for (int turn = 0; turn < kReceivesPerTurn; ++turn) {
    IoResult got = connection.stream->receive({scratch_.get(), kScratchBytes});
    if (got.kind == IoResult::Kind::kBytes) continue;
    // When stopping, a peer that sent nothing more need not be waited for: a plain close loses no reply.
    if (got.kind == IoResult::Kind::kClosed || stopping_) drop(connection);
    return;
  }
}

void Worker::set_deadline(Connection& connection) {
  const Session& session = connection.session;
  if (!session.awaits_rest()) {
    connection.deadline_ns = 0;
  } else if (connection.deadline_ns == 0 || connection.deadline_frame != session.frames()) {
    connection.deadline_frame = session.frames();
    arm(connection, limits_.frame_ms);
  }
}

void Worker::arm(Connection& connection, int64_t ms) {
  int64_t now = monotonic_ns();
  connection.deadline_ns = now + ms * kNsPerMs;
  if (deadlines_) return;
  deadlines_ = true;
  next_check_ns_ = now + check_interval_ns();
}

int64_t Worker::check_interval_ns() const {
  return std::clamp<int64_t>(limits_.frame_ms / 4, 10, 1000) * kNsPerMs;
}

void Worker::enforce_deadlines() {
  int64_t now = monotonic_ns();
  deadlines_ = false;
  for (auto& connection : slots_) {
    if (!connection || connection->deadline_ns == 0) continue;
    if (connection->deadline_ns <= now) {
      drop(*connection);
    } else {
      deadlines_ = true;
    }
  }
  next_check_ns_ = now + check_interval_ns();
}

void Worker::take_letters() {
  wake_.clear();
  bool stop = stop_asked_;
  std::vector<Letter> taken;
  letters_.with([&](auto& letters) { taken.swap(letters); });
  for (Letter& letter : taken) {
    if (stop || !add(std::move(letter))) --connections_;
  }
  if (stop && !stopping_) stop_serving();
}

bool Worker::add(Letter letter) {
  if (free_slots_.empty()) {
    free_slots_.push_back(slots_.size());
    slots_.emplace_back();
  }
  size_t slot = free_slots_.back();
  if (!poller_.add(letter.stream->fd(), EPOLLIN, slot + 1).ok()) return false;
  free_slots_.pop_back();
  slots_[slot] = std::make_unique<Connection>(*letter.donor, std::move(letter.stream), slot);
  slots_[slot]->stranger = strangers_.insert(strangers_.end(), slot);
  set_deadline(*slots_[slot]);
  if (strangers_.size() > limits_.strangers) drop_oldest_stranger();
  return true;
}

// Ends the life of `connection`.
void Worker::drop(Connection& connection) {
  size_t slot = connection.slot;
  if (const char* why = connection.stream->why_closed()) event_log().debug("a connection was turned away: {}", why);
  if (connection.stranger) strangers_.erase(*connection.stranger);
  if (connection.unread) std::erase(unread_, slot);
  poller_.remove(connection.stream->fd());
  slots_[slot].reset();
  free_slots_.push_back(slot);
  --connections_;
}

// Whoever floods a donor with connections that go nowhere pushes out their own; a host's say hello at once.
void Worker::drop_oldest_stranger() {
  drop(*slots_[strangers_.front()]);
}

void Worker::stop_serving() {
  stopping_ = true;
  stop_by_ns_ = monotonic_ns() + limits_.stop_ms * kNsPerMs;
  for (auto& connection : slots_) {
    if (!connection) continue;
    connection->session.close_when_sent();
    if (connection->ending) {
      discard_input(*connection);
    } else {
      settle(*connection);
    }
  }
}

}  // namespace hecaton::donor
