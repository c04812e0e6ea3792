// The coherence of guest memory on several nodes: what is told to this node's core, and what it wants done.
//
// A VM's memory has one home for each page, and any node may have copies. Each node runs a core, which is both its
// holder (what this node has) and the directory of its own range (who has what). Guest accesses are sequentially
// consistent: a page is writable at one node while nobody else can read it, or readable at many. docs/coherence.md
// tells the protocol.
//
// Told to it:                                         Wanted by it (actions.h):
//   fault()      a processor waits for a page           map, protect or zap a page of this node
//   receive()    another node's message                 send messages, some with the page's bytes
//   timer()      the time it asked for has come         a timer
//   node_lost()  a node is dead                         fail: bytes are gone
//
// Before a node is told to be lost, it must be certain that it will not run on: its connections are closed and its
// processors stopped. Nothing here can know that.
//
// Pure: no descriptor, no thread, no clock; one thread at a time. Times are monotonic nanoseconds, and never go back.
// Guest memory starts as zeros; every access from the start on goes through fault().
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "coherence/actions.h"
#include "coherence/directory.h"
#include "coherence/hold.h"
#include "coherence/holder.h"
#include "coherence/home_map.h"

namespace hecaton::coherence {

struct Config {
  NodeId self;
  HomeMap homes;
  size_t processors = 1;        // of this node: vCPUs, and threads that touch guest memory beside them
  int64_t hold_ns = 100'000;    // more than a processor needs from waking to the end of its instruction
  uint32_t version_mask = ~0u;  // for tests: fewer bits, fewer states
};

// What is known to be gone with a node. The pages are those of this core's own range; each core knows its own.
struct Loss {
  std::vector<PageRun> pages;  // their newest bytes were there, or were on their way from or to it
  PageRun homeless;            // the lost node's own range: what is here of it stays good, but no more can be had
};

class Core {
 public:
  explicit Core(const Config& config);

  // All of these append to `actions`. An error is of kind kProtocol. From receive(): `from` broke the protocol, and
  // nothing has changed, or only what an earlier lie of a peer had made impossible. From the others: the latter.
  Result<void> fault(ProcessorNumber processor, PageNumber page, Access access, int64_t now_ns, Actions& actions);
  Result<void> receive(NodeId from, const Message& message, int64_t now_ns, Actions& actions);
  Result<void> timer(int64_t now_ns, Actions& actions);
  Result<void> node_lost(NodeId lost, int64_t now_ns, Actions& actions, Loss& loss);

  NodeId self() const { return self_; }
  NodeState state(PageNumber page) const { return holder_.state(page); }
  const Directory& directory() const { return directory_; }
  int64_t timer_ns() const { return holder_.timer_ns(); }  // INT64_MAX: none

  // For tests that compare states: appends all that matters for what happens next.
  void append_state(int64_t now_ns, std::vector<uint64_t>& out) const;

 private:
  Result<void> dispatch(NodeId from, const Message& message, int64_t now_ns, Outbox& out);
  // Until nothing is left that this node says to itself, and no order that can be obeyed.
  Result<void> finish(int64_t now_ns, Outbox& out);

  NodeId self_;
  HomeMap homes_;
  NodeSet dead_;
  Holder holder_;
  Directory directory_;
  std::vector<Message> to_self_;
};

}  // namespace hecaton::coherence
