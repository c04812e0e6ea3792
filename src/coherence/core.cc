#include "coherence/core.h"

#include "base/check.h"

namespace hecaton::coherence {

const char* name_of(ActionKind kind) {
  static constexpr const char* kNames[] = {"send",    "keep", "make zero", "map to read", "map to write",
                                           "protect", "zap",  "drop",      "timer",       "fail"};
  return kNames[static_cast<size_t>(kind)];
}

Core::Core(const Config& config)
    : self_(config.self),
      homes_(config.homes),
      holder_(config.self, config.homes, config.processors, config.hold_ns),
      directory_(config.self, config.homes.range_of(config.self), config.version_mask) {
  to_self_.reserve(16);
}

Result<void> Core::fault(ProcessorNumber processor, PageNumber page, Access access, int64_t now_ns, Actions& actions) {
  Outbox out(self_, actions, to_self_);
  holder_.fault(processor, page, access, now_ns, out);
  return finish(now_ns, out);
}

Result<void> Core::receive(NodeId from, const Message& message, int64_t now_ns, Actions& actions) {
  if (from == self_ || from.value >= homes_.nodes() || dead_.has(from)) {
    return Error{ErrorCode::kProtocol, 0, "a coherence message of no live node"};
  }
  if (!homes_.has(message.page)) return Error{ErrorCode::kProtocol, 0, "a coherence message for no page"};
  Outbox out(self_, actions, to_self_);
  HEC_TRY(dispatch(from, message, now_ns, out));
  return finish(now_ns, out);
}

Result<void> Core::timer(int64_t now_ns, Actions& actions) {
  Outbox out(self_, actions, to_self_);
  return finish(now_ns, out);
}

Result<void> Core::node_lost(NodeId lost, int64_t now_ns, Actions& actions, Loss& loss) {
  HEC_CHECK(lost != self_ && lost.value < homes_.nodes());
  if (dead_.has(lost)) return {};
  dead_ = dead_.with(lost);
  loss.homeless = homes_.range_of(lost);
  Outbox out(self_, actions, to_self_);
  holder_.node_lost(lost, now_ns, out);
  directory_.node_lost(lost, out, loss.pages);
  return finish(now_ns, out);
}

Result<void> Core::dispatch(NodeId from, const Message& message, int64_t now_ns, Outbox& out) {
  const bool for_home = message.kind == Kind::kRead || message.kind == Kind::kWrite || message.kind == Kind::kDone;
  if (!for_home) return holder_.receive(from, message, now_ns, out);
  if (!directory_.has(message.page))
    return Error{ErrorCode::kProtocol, 0, "a page is asked for at a node not its home"};
  return directory_.receive(from, message, out);
}

Result<void> Core::finish(int64_t now_ns, Outbox& out) {
  Result<void> result;
  size_t next = 0;
  do {
    while (next < to_self_.size()) {
      const Message message = to_self_[next++];
      Result<void> passed = dispatch(self_, message, now_ns, out);
      if (!passed.ok()) result = passed;
    }
    holder_.settle(now_ns, out);
  } while (next < to_self_.size());
  to_self_.clear();
  return result;
}

void Core::append_state(int64_t now_ns, std::vector<uint64_t>& out) const {
  holder_.append_state(now_ns, out);
  directory_.append_state(out);
}

}  // namespace hecaton::coherence
