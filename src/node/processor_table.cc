#include "node/processor_table.h"

#include <algorithm>

namespace hecaton::node {

ProcessorNumber ProcessorTable::number_of(uint32_t thread) {
  size_t chosen = 0;
  for (size_t i = 0; i < processors_.size(); ++i) {
    Processor& it = processors_[i];
    if (it.known && it.thread == thread) {
      it.last_fault = ++faults_;
      return ProcessorNumber(i);
    }
    // Those that nobody has yet come first, since they have never faulted.
    if (it.last_fault < processors_[chosen].last_fault) chosen = i;
  }
  Processor& it = processors_[chosen];
  it.known = true;
  it.thread = thread;
  it.last_fault = ++faults_;
  return ProcessorNumber(chosen);
}

void ProcessorTable::waits(ProcessorNumber processor, PageNumber page, int64_t now_ns) {
  Processor& it = processors_[processor.value];
  if (it.awaited == page) return;  // a repeated event
  if (!it.awaited) ++waiting_;
  it.awaited = page;
  it.since_ns = now_ns;
}

int64_t ProcessorTable::came(PageNumber page, int64_t now_ns) {
  int64_t longest = 0;
  if (waiting_ == 0) return longest;
  for (Processor& it : processors_) {
    if (it.awaited != page) continue;
    it.awaited.reset();
    --waiting_;
    longest = std::max(longest, now_ns - it.since_ns);
  }
  return longest;
}

}  // namespace hecaton::node
