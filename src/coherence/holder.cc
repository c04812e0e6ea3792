#include "coherence/holder.h"

#include <algorithm>

#include "base/check.h"

namespace hecaton::coherence {
namespace {

// Orders of homes that wait at once, before memory is taken for more.
constexpr size_t kUsuallyWaiting = 64;

Error broken(const char* what) {
  return Error{ErrorCode::kProtocol, 0, what};
}

// While it is in one of these, a page may have a Pending.
bool asks_to_write(NodeState state) {
  return state == NodeState::kAsksWrite || state == NodeState::kAsksUpgrade || state == NodeState::kGathers;
}

bool is_readable(NodeState state) {
  return state == NodeState::kShared || state == NodeState::kClean || state == NodeState::kExclusive ||
         state == NodeState::kAsksUpgrade || state == NodeState::kGathers;
}

bool is_order(Kind kind) {
  return kind == Kind::kFetchShared || kind == Kind::kFetchExclusive || kind == Kind::kInvalidate;
}

}  // namespace

Holder::Holder(NodeId self, const HomeMap& homes, size_t processors, int64_t hold_ns)
    : self_(self), homes_(homes), hold_(processors, hold_ns), states_(homes.pages(), NodeState::kInvalid) {
  const PageRun own = homes.range_of(self);
  std::fill_n(states_.begin() + static_cast<ptrdiff_t>(own.first.value), own.count, NodeState::kUntouched);
  pending_.reserve(processors);  // each waits for one page
  orders_.reserve(kUsuallyWaiting);
}

Holder::Pending* Holder::find_pending(PageNumber page) {
  auto found = std::find_if(pending_.begin(), pending_.end(), [&](const Pending& p) { return p.page == page; });
  return found == pending_.end() ? nullptr : &*found;
}

void Holder::fault(ProcessorNumber processor, PageNumber page, Access access, int64_t now_ns, Outbox& out) {
  HEC_CHECK(homes_.has(page));
  const NodeState state = states_[page.value];
  hold_.fault(processor, page, !is_readable(state), now_ns);
  const bool asks = state == NodeState::kInvalid || (state == NodeState::kShared && access == Access::kWrite);
  if (asks && dead_.has(homes_.home_of(page))) return lose(page, now_ns, out);
  const NodeRule* rule = find_rule(state, access == Access::kRead ? NodeEvent::kReadFault : NodeEvent::kWriteFault);
  HEC_CHECK(rule != nullptr);
  Message cause;
  cause.page = page;
  apply(*rule, cause, now_ns, out);
}

Result<void> Holder::receive(NodeId from, const Message& message, int64_t now_ns, Outbox& out) {
  const Step step = HEC_TRY(classify(from, message));
  const NodeRule* rule = find_rule(states_[message.page.value], step.event);
  if (rule == nullptr) return broken("a coherence message that this page cannot get now");
  const Message* waiting = last_order(message.page);
  if (waiting != nullptr && message.kind != Kind::kLost) {
    // The home has nothing else to say of a page that it asks back: but when a reader dies, what comes next may come
    // before we hear of it.
    const bool may_follow =
        waiting->kind == Kind::kFetchShared && is_order(message.kind) && !waits_for(message.page, message.requester);
    if (!may_follow) return broken("a coherence message for a page that is asked back");
  }
  if (is_order(message.kind)) {
    // What is kept for a node that died stays here; the home counts the page as lost.
    if (dead_.has(message.requester)) return {};
    if (waiting != nullptr || must_wait(message, now_ns)) {
      orders_.push_back(message);
      return {};
    }
  }
  if (Pending* pending = find_pending(message.page)) *pending = step.pending;
  Message cause = message;
  if (step.event == NodeEvent::kLastForgotten) cause.unwritten = step.pending.unwritten;
  if (step.event == NodeEvent::kLost) {
    std::erase_if(orders_, [&](const Message& order) { return order.page == message.page; });
  }
  apply(*rule, cause, now_ns, out);
  return {};
}

Result<Holder::Step> Holder::classify(NodeId from, const Message& message) {
  Step step{NodeEvent::kLost, {}};
  if (const Pending* known = find_pending(message.page)) step.pending = *known;
  Pending& pending = step.pending;
  switch (message.kind) {
    case Kind::kFetchShared:
    case Kind::kFetchExclusive:
    case Kind::kInvalidate:
      step.event = HEC_TRY(classify_order(from, message));
      break;
    case Kind::kUpgrade:
      if (from != homes_.home_of(message.page)) return broken("an upgrade that is not from the page's home");
      HEC_TRY(note_grant(message, pending));
      step.event = all_forgot(pending) ? NodeEvent::kUpgrade : NodeEvent::kUpgradeThenWait;
      break;
    case Kind::kShared:
      step.event = from == homes_.home_of(message.page) ? NodeEvent::kCopyOfHome : NodeEvent::kCopy;
      break;
    case Kind::kExclusive:
      if (message.to_read && !message.await.empty()) return broken("a page to be read of which others have copies");
      HEC_TRY(note_grant(message, pending));
      if (!message.to_read && !all_forgot(pending)) {
        step.event = NodeEvent::kPageThenWait;
      } else if (from == homes_.home_of(message.page) && message.await.empty()) {
        step.event = message.to_read ? NodeEvent::kPageToReadOfHome : NodeEvent::kPageOfHome;
      } else {
        step.event = message.to_read ? NodeEvent::kPageToRead : NodeEvent::kPage;
      }
      break;
    case Kind::kForgotten:
      HEC_TRY(note_forgotten(from, message, pending));
      step.event = all_forgot(pending) ? NodeEvent::kLastForgotten : NodeEvent::kForgotten;
      break;
    case Kind::kLost:
      if (from != homes_.home_of(message.page)) return broken("a loss that is not told by the page's home");
      break;
    default:
      return broken("a message for a page's home");
  }
  return step;
}

Result<NodeEvent> Holder::classify_order(NodeId from, const Message& message) const {
  if (from != homes_.home_of(message.page)) return broken("an order that is not from the page's home");
  if (message.requester == self_ || message.requester.value >= homes_.nodes()) {
    return broken("an order for the sake of an impossible node");
  }
  switch (message.kind) {
    case Kind::kFetchShared:
      return NodeEvent::kFetchShared;
    case Kind::kFetchExclusive:
      return NodeEvent::kFetchExclusive;
    default:
      return NodeEvent::kInvalidate;
  }
}

Result<void> Holder::note_grant(const Message& message, Pending& pending) const {
  if (pending.has_version && pending.version != message.version) return broken("a grant of another turn");
  if (pending.granted) return broken("a second grant");
  if (message.await.has(self_)) return broken("a grant that awaits the one who gets it");
  if (!pending.forgotten.without(message.await).empty()) return broken("a node forgot a copy that it did not have");
  pending.granted = pending.has_version = true;
  pending.version = message.version;
  pending.await = message.await;
  pending.unwritten = message.unwritten;
  return {};
}

Result<void> Holder::note_forgotten(NodeId from, const Message& message, Pending& pending) const {
  if (pending.has_version && pending.version != message.version) return broken("a copy of another turn is forgotten");
  if (pending.forgotten.has(from)) return broken("a node forgot its copy twice");
  if (pending.granted && !pending.await.has(from)) return broken("a node forgot a copy that it did not have");
  pending.has_version = true;
  pending.version = message.version;
  pending.forgotten = pending.forgotten.with(from);
  return {};
}

const Message* Holder::last_order(PageNumber page) const {
  auto found = std::find_if(orders_.rbegin(), orders_.rend(), [&](const Message& order) { return order.page == page; });
  return found == orders_.rend() ? nullptr : &*found;
}

bool Holder::waits_for(PageNumber page, NodeId requester) const {
  return std::any_of(orders_.begin(), orders_.end(),
                     [&](const Message& order) { return order.page == page && order.requester == requester; });
}

bool Holder::must_wait(const Message& order, int64_t now_ns) const {
  const NodeState state = states_[order.page.value];
  // One who only wants a copy of a copy takes nothing from us.
  if (order.kind == Kind::kFetchShared && state != NodeState::kExclusive && state != NodeState::kClean) return false;
  return hold_.kept_until(order.page, now_ns) > now_ns;
}

void Holder::settle(int64_t now_ns, Outbox& out) {
  int64_t next = INT64_MAX;
  size_t kept = 0;
  for (size_t i = 0; i < orders_.size(); ++i) {
    const Message order = orders_[i];
    if (must_wait(order, now_ns)) {
      next = std::min(next, hold_.kept_until(order.page, now_ns));
      orders_[kept++] = order;
      continue;
    }
    const NodeEvent event = classify_order(homes_.home_of(order.page), order).value();
    // There was a rule when the order came, and no fault takes it away, nor the orders before it.
    const NodeRule* rule = find_rule(states_[order.page.value], event);
    HEC_CHECK(rule != nullptr);
    apply(*rule, order, now_ns, out);
  }
  orders_.resize(kept);
  if (next != timer_ns_ && next != Hold::kUntilItCame) out.timer(next);
  timer_ns_ = next;
}

void Holder::apply(const NodeRule& rule, const Message& cause, int64_t now_ns, Outbox& out) {
  const NodeState before = rule.from;
  states_[cause.page.value] = rule.next;
  if (asks_to_write(rule.next) && !asks_to_write(before)) {
    Pending pending;
    pending.page = cause.page;
    pending_.push_back(pending);
  }
  for (NodeStep step : rule.steps) do_step(step, before, cause, now_ns, out);
  if (asks_to_write(before) && !asks_to_write(rule.next)) {
    *find_pending(cause.page) = pending_.back();
    pending_.pop_back();
  }
}

void Holder::do_step(NodeStep step, NodeState before, const Message& cause, int64_t now_ns, Outbox& out) {
  const PageNumber page = cause.page;
  Message message;
  message.page = page;
  message.version = cause.version;
  switch (step) {
    case NodeStep::kNone:
      return;
    case NodeStep::kAskRead:
    case NodeStep::kAskWrite:
      message.kind = step == NodeStep::kAskRead ? Kind::kRead : Kind::kWrite;
      return out.send(homes_.home_of(page), message);
    case NodeStep::kMakeZero:
      return out.act(ActionKind::kMakeZero, page);
    case NodeStep::kKeep:
      return out.act(cause.carries_page ? ActionKind::kKeep : ActionKind::kMakeZero, page);
    case NodeStep::kMapRead:
    case NodeStep::kMapWrite:
      out.act(step == NodeStep::kMapRead ? ActionKind::kMapRead : ActionKind::kMapWrite, page);
      return hold_.came(page, now_ns);
    case NodeStep::kProtect:
      return out.act(ActionKind::kProtect, page);
    case NodeStep::kZap:
      return out.act(ActionKind::kZap, page);
    case NodeStep::kDrop:
      return out.act(ActionKind::kDrop, page);
    case NodeStep::kSendCopy:
      return give(Kind::kShared, before, cause, out);
    case NodeStep::kSendPage:
      return give(Kind::kExclusive, before, cause, out);
    case NodeStep::kConfirm:
      message.kind = Kind::kForgotten;
      return out.send(cause.requester, message);
    case NodeStep::kSendDone:
      message.kind = Kind::kDone;
      message.requester = self_;
      message.unwritten = cause.unwritten;
      return out.send(homes_.home_of(page), message);
    case NodeStep::kFail:
      out.act(ActionKind::kFail, page);
      return hold_.failed(page);
  }
}

void Holder::give(Kind kind, NodeState before, const Message& order, Outbox& out) const {
  Message message;
  message.kind = kind;
  message.page = order.page;
  message.version = order.version;
  message.carries_page = before != NodeState::kUntouched;
  message.unwritten = before == NodeState::kClean || before == NodeState::kUntouched;
  if (kind == Kind::kExclusive) {
    message.to_read = order.to_read;
    message.await = order.await;
  }
  out.send(order.requester, message);
  // Who gets it from the home, and waits for nobody, need not say so: what the home says next comes after it.
  if (homes_.home_of(order.page) != self_ || !message.await.empty()) return;
  Message done;
  done.kind = Kind::kDone;
  done.page = order.page;
  done.version = order.version;
  done.unwritten = message.unwritten;
  done.requester = order.requester;
  out.send(self_, done);
}

void Holder::lose(PageNumber page, int64_t now_ns, Outbox& out) {
  Message cause;
  cause.page = page;
  const NodeRule* rule = find_rule(states_[page.value], NodeEvent::kLost);
  HEC_CHECK(rule != nullptr);
  apply(*rule, cause, now_ns, out);
}

void Holder::node_lost(NodeId lost, int64_t now_ns, Outbox& out) {
  dead_ = dead_.with(lost);
  std::erase_if(orders_,
                [&](const Message& order) { return order.requester == lost || homes_.home_of(order.page) == lost; });
  const PageRun range = homes_.range_of(lost);
  for (PageNumber page = range.first; page < range.end(); ++page) {
    if (states_[page.value] == NodeState::kAsksRead || asks_to_write(states_[page.value])) lose(page, now_ns, out);
  }
  // Backwards: what is complete leaves the list, and the last takes its place.
  for (size_t i = pending_.size(); i-- > 0;) {
    const Pending pending = pending_[i];
    if (states_[pending.page.value] != NodeState::kGathers || !all_forgot(pending)) continue;
    Message cause;
    cause.page = pending.page;
    cause.version = pending.version;
    cause.unwritten = pending.unwritten;
    apply(*find_rule(NodeState::kGathers, NodeEvent::kLastForgotten), cause, now_ns, out);
  }
}

void Holder::append_state(int64_t now_ns, std::vector<uint64_t>& out) const {
  for (NodeState state : states_) out.push_back(static_cast<uint64_t>(state));
  hold_.append_state(now_ns, out);
  out.push_back(dead_.bits());
  std::vector<Pending> pending = pending_;
  std::sort(pending.begin(), pending.end(), [](const Pending& a, const Pending& b) { return a.page < b.page; });
  for (const Pending& p : pending) {
    out.push_back(p.page.value << 3 | static_cast<uint64_t>(p.granted) << 2 |
                  static_cast<uint64_t>(p.has_version) << 1 | static_cast<uint64_t>(p.unwritten));
    out.insert(out.end(), {p.version, p.await.bits(), p.forgotten.bits()});
  }
  for (const Message& order : orders_) {
    out.push_back(static_cast<uint64_t>(order.kind) << 32 | order.requester.value << 8 | order.to_read);
    out.insert(out.end(), {order.page.value, order.version, order.await.bits()});
  }
}

}  // namespace hecaton::coherence
