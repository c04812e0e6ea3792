#include "pager/prefetch_routes.h"

#include <algorithm>

namespace hecaton {
namespace {

// How long a page may be on its way while somebody waits for it and another donor has it, too.
constexpr int64_t kLateNs = 100'000'000;

}  // namespace

PrefetchRoutes::PrefetchRoutes(LoopContext context, Hooks hooks)
    : context_(context), hooks_(std::move(hooks)), watch_(context.pool.most_donors()), worker_(context.state, *this) {}

void PrefetchRoutes::receive(size_t donor) {
  auto take = [&](const wire::FrameHeader& header, std::span<const std::byte> body) {
    return take_reply(donor, header, body);
  };
  Result<size_t> frames = context_.pool.prefetch(donor).receive(take);
  if (!frames.ok()) connection_ended(donor, frames.error());
}

Result<void> PrefetchRoutes::take_reply(size_t donor, const wire::FrameHeader& header,
                                        std::span<const std::byte> body) {
  if (!watch_.answered(donor, context_.now())) {
    return Error{ErrorCode::kProtocol, 0, "the donor answered a read that was not asked"};
  }
  context_.pool.answered(donor);
  const uint64_t request = header.request_id % PrefetchWorker::kRequests;
  Asked& asked = asked_[request];
  const bool waits = asked.waits && asked.donor == donor &&
                     asked.generation == static_cast<uint32_t>(header.request_id / PrefetchWorker::kRequests);
  if (!waits) return {};  // it was given up
  asked.waits = false;
  Result<void> taken = worker_.on_read_reply(request, header.status, body);
  if (!taken.ok()) asked.waits = true;  // it is given up with the donor
  return taken;
}

// Called from within a receive, too: the connection is closed later.
void PrefetchRoutes::connection_ended(size_t donor, const Error& error) {
  context_.pool.connection_ended(donor, error);
  if (std::find(ended_.begin(), ended_.end(), donor) == ended_.end()) ended_.push_back(donor);
}

// Of two live copies each serves every other extent; the local disk only if there is nothing else.
std::optional<size_t> PrefetchRoutes::donor_of(ExtentNumber extent) {
  return choose_donor(extent, std::nullopt);
}

std::optional<size_t> PrefetchRoutes::choose_donor(ExtentNumber extent, std::optional<size_t> avoid) const {
  const CopySet copies = context_.state.placement.copies_of(extent);
  std::optional<size_t> best;
  for (size_t i = 0; i < copies.size(); ++i) {
    const CopySet::Copy copy = copies[(i + extent.value) % copies.size()];
    if (!copy.complete || copy.donor == avoid || !context_.pool.states().live(copy.donor)) continue;
    if (copy.donor >= context_.pool.prefetch_links().size()) continue;  // just added
    if (!best || context_.state.placement.is_local_disk(*best)) best = copy.donor;
  }
  return best;
}

bool PrefetchRoutes::send_read(uint64_t request, size_t donor, std::span<const PageNumber> pages) {
  Asked& asked = asked_[request];
  ++asked.generation;
  asked.donor = donor;
  asked.extent = extent_of(pages.front());  // one request is of one donor, and mostly of one extent
  asked.at_ns = context_.now();
  watch_.asked(donor, asked.at_ns);
  const uint64_t id = asked.generation * uint64_t{PrefetchWorker::kRequests} + request;
  Result<void> sent = context_.pool.prefetch(donor).send_read(id, pages);
  asked.waits = sent.ok();
  if (sent.ok()) return true;
  connection_ended(donor, sent.error());
  return false;
}

// A page that is on its way from a silent donor would keep whoever wants it waiting: the demand path asks another one.
void PrefetchRoutes::see_changes() {
  const DonorStates& states = context_.pool.states();
  seen_changes_ = states.changes();
  if (Result<void> taken = context_.pool.take_up_prefetch(); !taken.ok()) {
    connection_ended(context_.pool.prefetch_links().size() - 1, taken.error());
  }
  for (size_t donor : ended_) {
    context_.pool.prefetch_links().close(donor);
    watch_.forget(donor);
    give_up(donor);
  }
  ended_.clear();
  for (size_t donor = 0; donor < context_.pool.prefetch_links().size(); ++donor) {
    if (states.live(donor)) continue;
    give_up(donor);
    if (states.connected(donor)) continue;
    context_.pool.prefetch_links().close(donor);
    watch_.forget(donor);
  }
}

void PrefetchRoutes::give_up(size_t donor) {
  for (uint64_t request = 0; request < asked_.size(); ++request) {
    if (asked_[request].waits && asked_[request].donor == donor) give_up_request(request);
  }
}

void PrefetchRoutes::give_up_request(uint64_t request) {
  asked_[request].waits = false;
  worker_.give_up(request);
}

bool PrefetchRoutes::is_late(uint64_t request, int64_t now_ns) const {
  const Asked& asked = asked_[request];
  return asked.waits && now_ns - asked.at_ns > kLateNs && worker_.is_awaited(request) &&
         choose_donor(asked.extent, asked.donor);
}

// Whoever waits for a page that is late faults again, and the demand path asks for it: twice, if need be.
void PrefetchRoutes::check_patience() {
  context_.check_silence(watch_);
  const int64_t now = context_.now();
  if (!any_owed() || now < next_look_ns_) return;
  next_look_ns_ = now + kLateNs / 4;
  for (uint64_t request = 0; request < asked_.size(); ++request) {
    if (!is_late(request, now)) continue;
    context_.state.counters.hedged.add();
    give_up_request(request);
  }
}

}  // namespace hecaton
