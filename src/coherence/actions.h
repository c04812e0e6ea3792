// What the core wants done: by the engine, in this order, each before the next begins, and all before the core is told
// anything else about the page.
#pragma once

#include <cstdint>
#include <vector>

#include "base/node_id.h"
#include "base/units.h"
#include "wire/coherence.h"

namespace hecaton::coherence {

using Message = wire::CoherenceMessage;
using Kind = wire::CoherenceKind;

// A page's memory is what the second mapping sees: the bytes in the memfd. Its mapping is what the guest sees.
enum class ActionKind : uint8_t {
  kSend,      // `message` to `to`. If it carries the page: with the bytes that its memory has now
  kKeep,      // the bytes that came with the message just received become the page's memory; nothing is mapped yet
  kMakeZero,  // the page's memory becomes zeros, and exists
  kMapRead,   // map the memory for reading, unless it is mapped so; wake who waits for the page
  kMapWrite,  // map the memory for writing, or un-protect it, unless it is mapped so; wake who waits for the page
  kProtect,   // from here on no guest write reaches the memory
  kZap,       // from here on no guest access reaches the memory: MADV_DONTNEED of the mapping
  kDrop,      // the memory may be given back: punch the hole
  kTimer,     // call Core::timer() at `at_ns`, or soon after. A later kTimer replaces an earlier one
  kFail,      // the page's newest bytes are gone. Whoever waits for it must not go on
};
const char* name_of(ActionKind kind);

struct Action {
  ActionKind kind = ActionKind::kSend;
  NodeId to;          // of kSend
  PageNumber page;    // of all but kTimer
  int64_t at_ns = 0;  // of kTimer
  Message message;    // of kSend
};

// The caller's, and reused: once it has grown, nothing is allocated.
using Actions = std::vector<Action>;

// Where the two sides of a node put what they want done. What a node says to itself, being both home and holder, does
// not become an action: the core passes it on.
class Outbox {
 public:
  Outbox(NodeId self, Actions& actions, std::vector<Message>& to_self)
      : self_(self), actions_(actions), to_self_(to_self) {}

  void send(NodeId to, const Message& message) {
    if (to == self_) {
      to_self_.push_back(message);
    } else {
      actions_.push_back(Action{ActionKind::kSend, to, message.page, 0, message});
    }
  }
  void act(ActionKind kind, PageNumber page) { actions_.push_back(Action{kind, {}, page, 0, {}}); }
  void timer(int64_t at_ns) { actions_.push_back(Action{ActionKind::kTimer, {}, {}, at_ns, {}}); }

 private:
  NodeId self_;
  Actions& actions_;
  std::vector<Message>& to_self_;
};

}  // namespace hecaton::coherence
