// A core of three, among peers that say anything, in any order. The input is a list of commands, eight bytes each: what
// peers say, faults, time, and deaths. Whatever comes, the core answers with actions or an error: it never asserts.
//
//   u8 command: 0 fault, 1 time, 2 death, 3… a message of the kind command - 2     u8 who: node or processor
//   u8 page   u8 flags: 1 carries the page, 2 to read, 4 unwritten, 8 write fault
//   u8 requester   u8 version   u8 await   u8 nanoseconds that pass before it
#include <algorithm>

#include "coherence/core.h"
#include "fuzz.h"

using namespace hecaton;
using namespace hecaton::coherence;

namespace {

constexpr size_t kNodes = 3;
constexpr uint64_t kPages = 6;
constexpr size_t kCommandBytes = 8;

void say(Core& core, const uint8_t* c, int64_t now, Actions& actions) {
  Message message;
  message.kind = static_cast<Kind>(1 + (c[0] - 3) % static_cast<int>(wire::kLastCoherenceKind));
  message.page = PageNumber(c[2] % (kPages + 1));
  message.carries_page = (c[3] & 1) != 0;
  message.to_read = (c[3] & 2) != 0;
  message.unwritten = (c[3] & 4) != 0;
  message.requester = NodeId(c[4] % kMostNodes);
  message.version = c[5];
  message.await = NodeSet(c[6]);
  (void)core.receive(NodeId(c[1] % (kNodes + 1)), message, now, actions);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const uint64_t ranges[kNodes] = {2, 2, 2};
  Core core(Config{NodeId(size_t{0}), HomeMap(ranges), 2, 100});
  int64_t now = 1;
  Actions actions;
  for (; size >= kCommandBytes; data += kCommandBytes, size -= kCommandBytes) {
    actions.clear();
    now += data[7];
    Loss loss;
    switch (data[0]) {
      case 0:
        (void)core.fault(ProcessorNumber(data[1] % 2), PageNumber(data[2] % kPages),
                         (data[3] & 8) != 0 ? Access::kWrite : Access::kRead, now, actions);
        break;
      case 1:
        (void)core.timer(now, actions);
        break;
      case 2:
        (void)core.node_lost(NodeId(size_t{1} + data[1] % 2), now, actions, loss);
        break;
      default:
        say(core, data, now, actions);
    }
    for (const Action& action : actions) HEC_CHECK(action.kind != ActionKind::kSend || action.to != core.self());
  }
  return 0;
}
