// How an engine ends, and what it tells then.
#include <fmt/format.h>

#include "node/engine.h"

namespace hecaton::node {

std::string StopReason::describe() const {
  std::string text;
  switch (kind) {
    case Kind::kAsked:
      return "it was asked to";
    case Kind::kEnded:
      return fmt::format("node {} ended", node.value);
    case Kind::kLost:
      text = fmt::format("node {} is lost: {}", node.value, error.context);
      break;
    case Kind::kReported:
      text = fmt::format("node {} is lost: node {} says so", node.value, teller.value);
      break;
    case Kind::kBroken:
      text = error.describe();
      break;
  }
  if (lost_pages > 0) text += fmt::format("; the newest bytes of {} pages were there", lost_pages);
  return text;
}

void Engine::lose(NodeId node, Error error) {
  if (ended_) return;
  coherence::Loss loss;
  actions_.clear();
  // What it wants done is for nodes that go on; this VM does not.
  (void)core_.node_lost(node, now_ns_, actions_, loss);
  actions_.clear();
  uint64_t pages = 0;
  for (const PageRun& run : loss.pages) pages += run.count;
  finish({StopReason::Kind::kLost, node, error, pages});
}

// First of all nothing runs on: then the others are told.
void Engine::finish(StopReason reason) {
  if (ended_) return;
  ended_ = true;
  memory_.close_to_guest();
  const bool orderly = reason.kind == StopReason::Kind::kAsked || reason.kind == StopReason::Kind::kEnded;
  for (PeerLink& link : links_) {
    if (reason.kind == StopReason::Kind::kBroken) break;  // the ends of our connections say enough
    link.send_farewell(orderly ? self_ : reason.node);
    link.finish_sending();
  }
  reason_.with([&](std::optional<StopReason>& kept) { kept = reason; });
  if (config_.on_stop) config_.on_stop(reason);
}

void Engine::stop() {
  stop_asked_.store(true);
  wake_.raise();
}

std::optional<StopReason> Engine::reason() const {
  return reason_.with([](const std::optional<StopReason>& kept) { return kept; });
}

EngineStats Engine::stats() const {
  auto of = [](const std::atomic<uint64_t>& count) { return count.load(std::memory_order_relaxed); };
  return {of(counts_.faults), of(counts_.messages), of(counts_.pages),
          of(counts_.bytes),  of(counts_.upgrades), of(counts_.zero_pages)};
}

}  // namespace hecaton::node
