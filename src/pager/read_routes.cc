#include "pager/read_routes.h"

#include <algorithm>

namespace hecaton {

ReadRoutes::ReadRoutes(LoopContext context, unsigned shard, FaultServer& server, Watch watch)
    : context_(context),
      shard_(shard),
      server_(server),
      watch_link_(std::move(watch)),
      watch_(context.pool.most_donors()),
      router_(FaultServer::kSlots, context.pool.states()) {
  waiting_donors_.reserve(context.pool.most_donors());
  parked_.reserve(FaultServer::kSlots);
  ended_.reserve(context.pool.most_donors());
}

bool ReadRoutes::start_read(PageNumber page, uint32_t slot, bool again) {
  reading_[slot] = page;
  // A hedge that brought nothing is no reason to forget the donor that was asked first, and is only slow.
  if (again && router_.wait_for_other(slot)) return true;
  if (send_read(slot, again ? std::optional(router_.last_donor(slot)) : std::nullopt)) return true;
  parked_.push_back(slot);
  hopeless_parked_ = hopeless_parked_ || nobody_left(slot);  // no change would come to tell it
  return false;
}

bool ReadRoutes::wait_for_copy(PageNumber page, uint32_t slot) {
  const DonorStates& states = context_.pool.states();
  const CopySet copies = context_.state.placement.copies_of(extent_of(page));
  for (size_t i = 0; i < copies.size(); ++i) {
    const size_t donor = copies[i].donor;
    if (!copies[i].complete || states.connected(donor) || states.of(donor) == DonorState::kLost) continue;
    reading_[slot] = page;
    parked_.push_back(slot);
    return true;
  }
  return false;
}

// False: nobody can be asked now.
bool ReadRoutes::send_read(uint32_t slot, std::optional<size_t> avoid) {
  const CopySet copies = context_.state.placement.copies_of(extent_of(reading_[slot]));
  const std::optional<size_t> donor = router_.choose(copies, avoid);
  if (!donor || *donor >= known_donors_) return false;  // just added: see_changes() comes first
  // If the connection has ended the slot waits there, until the donor is dropped.
  ask(slot, *donor);
  return true;
}

bool ReadRoutes::ask(uint32_t slot, size_t donor) {
  const PageNumber page = reading_[slot];
  const int64_t asked = context_.now();
  const uint64_t id = router_.sent(slot, donor, asked);
  DonorClient* link = context_.pool.demand(shard_, donor);
  Result<void> sent = link ? link->send_read(id, std::span(&page, 1)) : Error{ErrorCode::kClosed, 0, "not connected"};
  if (!sent.ok()) {
    connection_ended(donor, sent.error());
    return false;
  }
  const int64_t now = context_.now();
  FaultTrace::mark(context_.state.counters.last_demand.sent, now);
  watch_.asked(donor, now);
  if (watch_.owed_by(donor) == 1 &&
      std::find(waiting_donors_.begin(), waiting_donors_.end(), donor) == waiting_donors_.end()) {
    waiting_donors_.push_back(donor);
  }
  return true;
}

bool ReadRoutes::read_replies() {
  bool any = false;
  for (size_t i = 0; i < waiting_donors_.size();) {
    const size_t donor = waiting_donors_[i];
    auto take = [&](const wire::FrameHeader& header, std::span<const std::byte> body) {
      return take_reply(donor, header, body);
    };
    DonorClient* link = context_.pool.demand(shard_, donor);
    Result<size_t> frames = link ? link->receive(take) : Result<size_t>(size_t{0});
    if (!frames.ok()) {
      last_answer_ns_ = context_.now();
      connection_ended(donor, frames.error());
    }
    any = any || !frames.ok() || *frames > 0;
    if (watch_.owed_by(donor) == 0) {
      waiting_donors_[i] = waiting_donors_.back();
      waiting_donors_.pop_back();
    } else {
      ++i;
    }
  }
  return any;
}

Result<void> ReadRoutes::take_reply(size_t donor, const wire::FrameHeader& header, std::span<const std::byte> body) {
  const int64_t now = context_.now();
  if (!watch_.answered(donor, now)) {
    return Error{ErrorCode::kProtocol, 0, "the donor answered a read that was not asked"};
  }
  context_.pool.answered(donor);
  last_answer_ns_ = now;
  std::optional<uint32_t> slot = router_.answered(header.request_id, donor, now);
  if (!slot) return {};  // another donor was quicker
  FaultTrace::mark(context_.state.counters.last_demand.answered, now);
  answering_ = donor;
  Result<void> taken = server_.on_read_reply(*slot, header.status, body);
  // It costs the donor its connection, but whoever waits for the page goes on to wait.
  if (!taken.ok() && !router_.wait_for_other(*slot)) parked_.push_back(*slot);
  return taken;
}

// A donor that speaks without being asked has closed the connection, or broken the protocol.
void ReadRoutes::read_unasked(size_t donor) {
  if (donor >= known_donors_ || watch_.owed_by(donor) > 0) return;
  DonorClient* link = context_.pool.demand(shard_, donor);
  auto take = [](const wire::FrameHeader&, std::span<const std::byte>) -> Result<void> {
    return Error{ErrorCode::kProtocol, 0, "the donor answered a read that was not asked"};
  };
  Result<size_t> frames = link ? link->receive(take) : Result<size_t>(size_t{0});
  if (!frames.ok()) connection_ended(donor, frames.error());
}

void ReadRoutes::check_patience() {
  context_.check_silence(watch_);
  hedge();
}

// Whoever waits for too long at one donor is served by another one, if it answers first.
void ReadRoutes::hedge() {
  if (!router_.any_under_way()) return;
  while (std::optional<uint32_t> slot = router_.hedge_due(context_.now())) {
    const size_t slow = router_.last_donor(*slot);
    const CopySet copies = context_.state.placement.copies_of(extent_of(reading_[*slot]));
    const std::optional<size_t> other = router_.choose(copies, slow);
    if (!other || *other == slow || *other >= known_donors_) continue;
    context_.state.counters.hedged.add();
    ask(*slot, *other);
  }
}

// Called from within a receive, too: the connection is closed later.
void ReadRoutes::connection_ended(size_t donor, const Error& error) {
  context_.pool.connection_ended(donor, error);
  if (std::find(ended_.begin(), ended_.end(), donor) == ended_.end()) ended_.push_back(donor);
}

void ReadRoutes::drop(size_t donor) {
  context_.pool.drop_demand(shard_, donor);
  watch_.forget(donor);
  std::erase(waiting_donors_, donor);
  router_.give_up(donor, [this](uint32_t slot) {
    context_.state.counters.failed_over.add();
    parked_.push_back(slot);
  });
}

void ReadRoutes::see_changes() {
  const DonorStates& states = context_.pool.states();
  seen_changes_ = states.changes();
  for (const size_t donors = context_.pool.donors(); known_donors_ < donors; ++known_donors_) {
    DonorClient* link = context_.pool.demand(shard_, known_donors_);
    if (!link) continue;
    if (Result<void> watched = watch_link_(link->fd(), known_donors_); !watched.ok()) {
      connection_ended(known_donors_, watched.error());
    }
  }
  hopeless_parked_ = false;
  for (size_t donor : ended_) drop(donor);
  ended_.clear();
  for (size_t donor = 0; donor < known_donors_; ++donor) {
    if (!states.connected(donor) && context_.pool.demand(shard_, donor)) drop(donor);
  }
  retry_parked();
}

void ReadRoutes::retry_parked() {
  for (size_t i = 0; i < parked_.size();) {
    const uint32_t slot = parked_[i];
    const bool sent = send_read(slot, router_.last_donor(slot));
    const bool hopeless = !sent && nobody_left(slot);
    if (!sent && !hopeless) {
      ++i;
      continue;
    }
    parked_[i] = parked_.back();
    parked_.pop_back();
    if (hopeless) server_.give_up_read(slot);
  }
}

// If the guest is to be stopped, the evict thread says so, with all that is lost: the slot stays.
bool ReadRoutes::nobody_left(uint32_t slot) const {
  if (context_.state.on_loss == OnLoss::kStop) return false;
  const CopySet copies = context_.state.placement.copies_of(extent_of(reading_[slot]));
  for (size_t i = 0; i < copies.size(); ++i) {
    if (context_.pool.states().of(copies[i].donor) != DonorState::kLost) return false;
  }
  return true;
}

}  // namespace hecaton
