// The node's side: what this node has of each page, what it asks for, and what it gives away when the home says so.
//
// node_rules.inc is its table. Beside the table there are two things: which nodes have yet to forget their copies
// before this one may write (Pending), and orders of the home that wait until this node may let go of a page (Hold).
//
// Pure; one thread at a time, as its Core. One byte a page; a Pending for each page that is asked for to be written.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "coherence/actions.h"
#include "coherence/hold.h"
#include "coherence/home_map.h"
#include "coherence/rules.h"

namespace hecaton::coherence {

enum class Access : uint8_t { kRead, kWrite };

class Holder {
 public:
  // Pages of its own range are Untouched, all others Invalid.
  Holder(NodeId self, const HomeMap& homes, size_t processors, int64_t hold_ns);

  NodeState state(PageNumber page) const { return states_[page.value]; }

  void fault(ProcessorNumber processor, PageNumber page, Access access, int64_t now_ns, Outbox& out);
  // Error: nothing has changed.
  Result<void> receive(NodeId from, const Message& message, int64_t now_ns, Outbox& out);
  // Obeys what orders can be obeyed by now; says when to come back for the others. After each of the above.
  void settle(int64_t now_ns, Outbox& out);
  int64_t timer_ns() const { return timer_ns_; }  // INT64_MAX: none

  void node_lost(NodeId lost, int64_t now_ns, Outbox& out);

  // For tests that compare states: appends all that matters for what happens next.
  void append_state(int64_t now_ns, std::vector<uint64_t>& out) const;

 private:
  struct Pending {
    PageNumber page;
    bool granted = false;      // the home's word is here, so `await` is known
    bool has_version = false;  // from the first message of this turn on
    bool unwritten = false;
    uint32_t version = 0;
    NodeSet await;
    NodeSet forgotten;
  };
  struct Step {
    NodeEvent event;
    Pending pending;  // as it is afterwards
  };

  Pending* find_pending(PageNumber page);
  bool all_forgot(const Pending& pending) const {
    return pending.granted && pending.await.without(pending.forgotten).without(dead_).empty();
  }
  Result<Step> classify(NodeId from, const Message& message);
  Result<NodeEvent> classify_order(NodeId from, const Message& message) const;
  Result<void> note_grant(const Message& message, Pending& pending) const;
  Result<void> note_forgotten(NodeId from, const Message& message, Pending& pending) const;
  const Message* last_order(PageNumber page) const;
  bool waits_for(PageNumber page, NodeId requester) const;
  bool must_wait(const Message& order, int64_t now_ns) const;
  void apply(const NodeRule& rule, const Message& cause, int64_t now_ns, Outbox& out);
  void do_step(NodeStep step, NodeState before, const Message& cause, int64_t now_ns, Outbox& out);
  void give(Kind kind, NodeState before, const Message& order, Outbox& out) const;
  void lose(PageNumber page, int64_t now_ns, Outbox& out);

  NodeId self_;
  HomeMap homes_;
  Hold hold_;
  NodeSet dead_;
  std::vector<NodeState> states_;
  std::vector<Pending> pending_;  // few: searched
  std::vector<Message> orders_;   // that wait, in the order in which they came
  int64_t timer_ns_ = INT64_MAX;
};

}  // namespace hecaton::coherence
