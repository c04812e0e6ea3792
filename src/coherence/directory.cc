#include "coherence/directory.h"

#include "base/check.h"

namespace hecaton::coherence {
namespace {

// Pages that are under way at once, before memory is taken for more.
constexpr size_t kUsuallyUnderWay = 64;

Error broken(const char* what) {
  return Error{ErrorCode::kProtocol, 0, what};
}

bool is_under_way(HomeState state) {
  return state == HomeState::kReading || state == HomeState::kMoving;
}

Message message_of(Kind kind, PageNumber page, uint32_t version, NodeId requester = {}) {
  Message message;
  message.kind = kind;
  message.page = page;
  message.version = version;
  message.requester = requester;
  return message;
}

}  // namespace

Directory::Directory(NodeId self, PageRun range, uint32_t version_mask)
    : self_(self), range_(range), version_mask_(version_mask) {
  Entry untouched{NodeSet::of(self), 0, 0, self, HomeState::kExclusive, false};
  entries_.assign(range.count, untouched);
  slots_.reserve(kUsuallyUnderWay);
  free_slots_.reserve(kUsuallyUnderWay);
}

Directory::Busy& Directory::make_busy(Entry& e) {
  if (e.slot == 0) {
    if (free_slots_.empty()) {
      slots_.emplace_back();
      // kMostRequestsOfANode keeps it within 16 bits.
      free_slots_.push_back(static_cast<uint16_t>(slots_.size()));
    }
    e.slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[e.slot - 1u] = Busy{};
  }
  return slots_[e.slot - 1u];
}

void Directory::end_busy(Entry& e) {
  if (e.slot == 0) return;
  free_slots_.push_back(e.slot);
  e.slot = 0;
}

Result<void> Directory::receive(NodeId from, const Message& message, Outbox& out) {
  HEC_CHECK(has(message.page));
  // This node says it of itself, and of those to whom it gave the page (holder.cc, give()).
  if (message.kind == Kind::kDone) return done(from == self_ ? message.requester : from, message, out);
  return request(Request{message.page, from, message.kind == Kind::kWrite}, out);
}

Result<void> Directory::request(const Request& request, Outbox& out) {
  Entry& e = entry(request.page);
  const Busy* b = busy(e);
  const NodeId from = request.from;
  if (b != nullptr && (b->in_service.has(from) || b->waiting.has(from))) return broken("a page is asked for twice");
  if (e.state != HomeState::kLost) {
    if (!request.writes && e.sharers.has(from)) return broken("a copy is asked for that is there already");
    if (e.state == HomeState::kExclusive && e.owner == from) return broken("a page is asked for that is there already");
    if (requests_[from.value] == kMostRequestsOfANode) return broken("a node asks for too many pages at once");
  }
  const HomeRule* rule = find_rule(e.state, classify(e, request));
  if (rule == nullptr) return broken("a page is asked for that cannot be asked for");
  if (e.state != HomeState::kLost) ++requests_[from.value];
  apply(*rule, request, out);
  return {};
}

Result<void> Directory::done(NodeId from, const Message& message, Outbox& out) {
  Entry& e = entry(message.page);
  if (e.state == HomeState::kLost) {
    apply(*find_rule(HomeState::kLost, HomeEvent::kDone), Request{message.page, from, false}, out);
    return {};
  }
  Busy* b = busy(e);
  if (b == nullptr || !b->in_service.has(from) || message.version != e.version) {
    return broken("a page is done that was not under way");
  }
  b->in_service = b->in_service.without(from);
  --requests_[from.value];
  if (message.unwritten) e.migratory = false;
  const HomeRule* rule = find_rule(e.state, b->in_service.empty() ? HomeEvent::kDone : HomeEvent::kDoneOfSome);
  HEC_CHECK(rule != nullptr);
  apply(*rule, Request{message.page, from, false}, out);
  return {};
}

HomeEvent Directory::classify(const Entry& e, const Request& request) const {
  if (e.slot != 0 && !slots_[e.slot - 1u].waiting.empty()) return HomeEvent::kBehind;
  if (request.writes) return e.sharers.has(request.from) ? HomeEvent::kUpgrade : HomeEvent::kWrite;
  return e.state == HomeState::kExclusive && e.migratory ? HomeEvent::kMigrantRead : HomeEvent::kRead;
}

void Directory::apply(const HomeRule& rule, const Request& request, Outbox& out) {
  Entry& e = entry(request.page);
  bool serve = false;
  for (HomeStep step : rule.steps) {
    switch (step) {
      case HomeStep::kNone:
        break;
      case HomeStep::kFetchShared:
        fetch_shared(e, request, out);
        break;
      case HomeStep::kFetchToRead:
      case HomeStep::kFetchExclusive:
        if (e.state == HomeState::kShared) e.migratory = false;
        move(e, Kind::kFetchExclusive, step == HomeStep::kFetchToRead, request, out);
        break;
      case HomeStep::kGrantUpgrade:
        // Read, and then written, by another than the last who wrote: it wanders.
        e.migratory = e.owner != request.from && e.sharers.without(request.from) == NodeSet::of(e.owner);
        move(e, Kind::kUpgrade, false, request, out);
        break;
      case HomeStep::kInvalidate:
        invalidate_.for_each([&](NodeId sharer) {
          out.send(sharer, message_of(Kind::kInvalidate, request.page, e.version, request.from));
        });
        break;
      case HomeStep::kQueue:
        enqueue(e, request);
        break;
      case HomeStep::kServeNext:
        serve = true;
        break;
      case HomeStep::kTellLost:
        out.send(request.from, message_of(Kind::kLost, request.page, e.version));
        break;
    }
  }
  e.state = rule.next;
  if (serve) serve_next(request.page, out);
}

// Who certainly has the bytes. Readers to whom they are on their way do not; of the others the home is nearest.
NodeId Directory::supplier_of(Entry& e) {
  const Busy* b = busy(e);
  const NodeSet have = b == nullptr ? e.sharers : e.sharers.without(b->in_service);
  return have.has(self_) ? self_ : e.owner;
}

void Directory::fetch_shared(Entry& e, const Request& request, Outbox& out) {
  out.send(supplier_of(e), message_of(Kind::kFetchShared, request.page, e.version, request.from));
  Busy& b = make_busy(e);
  b.in_service = b.in_service.with(request.from);
  e.sharers = e.sharers.with(request.from);
}

void Directory::move(Entry& e, Kind how, bool to_read, const Request& request, Outbox& out) {
  const bool upgrade = how == Kind::kUpgrade;
  const NodeId to = upgrade ? request.from : supplier_of(e);
  invalidate_ = e.sharers.without(to);
  e.version = (e.version + 1) & version_mask_;
  Message message = message_of(how, request.page, e.version, upgrade ? NodeId() : request.from);
  message.to_read = to_read;
  message.await = invalidate_;
  out.send(to, message);
  Busy& b = make_busy(e);
  b.in_service = NodeSet::of(request.from);
  b.supplier = to;
  b.supplied = !upgrade;
  e.sharers = b.in_service;
  e.owner = request.from;
}

void Directory::enqueue(Entry& e, const Request& request) {
  Busy& b = make_busy(e);
  b.queue[(b.head + b.count) % kMostNodes] = request.from.value;
  ++b.count;
  b.waiting = b.waiting.with(request.from);
  if (request.writes) b.writers = b.writers.with(request.from);
}

void Directory::serve_next(PageNumber page, Outbox& out) {
  Entry& e = entry(page);
  while (e.slot != 0) {
    Busy& b = slots_[e.slot - 1u];
    if (b.count == 0) break;
    const NodeId next(b.queue[b.head]);
    const bool writes = b.writers.has(next);
    if (e.state == HomeState::kMoving || (e.state == HomeState::kReading && writes)) break;
    b.head = static_cast<uint8_t>((b.head + 1) % kMostNodes);
    --b.count;
    b.waiting = b.waiting.without(next);
    b.writers = b.writers.without(next);
    const NodeSet behind = b.waiting;
    b.waiting = NodeSet();  // those are behind it, and not it behind them
    const Request request{page, next, writes};
    const HomeRule* rule = find_rule(e.state, classify(e, request));
    HEC_CHECK(rule != nullptr);
    apply(*rule, request, out);
    busy(e)->waiting = behind;
  }
  if (!is_under_way(e.state)) end_busy(e);
}

void Directory::node_lost(NodeId lost, Outbox& out, std::vector<PageRun>& pages) {
  requests_[lost.value] = 0;
  for (PageNumber page = range_.first; page < range_.end(); ++page) {
    if (!forget(page, lost, out)) continue;
    if (!pages.empty() && pages.back().end() == page) {
      ++pages.back().count;
    } else {
      pages.push_back({page, 1});
    }
  }
}

// True if the page is lost with it. Where it cannot be known whether the bytes had left, they count as lost.
bool Directory::forget(PageNumber page, NodeId lost, Outbox& out) {
  Entry& e = entry(page);
  if (e.state == HomeState::kLost) return false;
  Busy* b = busy(e);
  if (b != nullptr && b->waiting.has(lost)) {
    uint8_t kept = 0;
    for (uint8_t i = 0; i < b->count; ++i) {
      const uint8_t node = b->queue[(b->head + i) % kMostNodes];
      if (node != lost.value) b->queue[(b->head + kept++) % kMostNodes] = node;
    }
    b->count = kept;
    b->waiting = b->waiting.without(lost);
    b->writers = b->writers.without(lost);
  }
  const bool was_served = b != nullptr && b->in_service.has(lost);
  if (was_served) b->in_service = b->in_service.without(lost);
  const bool from_it = e.state == HomeState::kMoving && b->supplied && b->supplier == lost;
  const bool was_owner = e.owner == lost && e.state != HomeState::kShared;
  e.sharers = e.sharers.without(lost);
  if (from_it || was_owner || e.sharers.empty()) {
    lose(page, out);
    return true;
  }
  if (e.owner == lost) e.owner = e.sharers.has(self_) ? self_ : e.sharers.lowest();
  if (e.state == HomeState::kReading && was_served) {
    if (b->in_service.empty()) {
      apply(*find_rule(HomeState::kReading, HomeEvent::kDone), Request{page, lost, false}, out);
    }
  } else if (b != nullptr) {
    serve_next(page, out);
  }
  return false;
}

void Directory::lose(PageNumber page, Outbox& out) {
  Entry& e = entry(page);
  if (Busy* b = busy(e)) {
    NodeSet(b->in_service.bits() | b->waiting.bits()).for_each([&](NodeId node) {
      --requests_[node.value];
      out.send(node, message_of(Kind::kLost, page, e.version));
    });
    end_busy(e);
  }
  e.state = HomeState::kLost;
}

void Directory::append_state(std::vector<uint64_t>& out) const {
  for (const Entry& e : entries_) {
    out.push_back(e.sharers.bits());
    out.push_back(static_cast<uint64_t>(e.version) << 32 | e.owner.value << 16 | static_cast<uint64_t>(e.state) << 8 |
                  static_cast<uint64_t>(e.migratory) << 1 | (e.slot != 0 ? 1u : 0u));
    if (e.slot == 0) continue;
    const Busy& b = slots_[e.slot - 1u];
    out.insert(out.end(), {b.in_service.bits(), b.writers.bits(), b.supplier.value, b.supplied, b.count});
    for (uint8_t i = 0; i < b.count; ++i) out.push_back(b.queue[(b.head + i) % kMostNodes]);
  }
}

}  // namespace hecaton::coherence
