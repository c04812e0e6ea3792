#include "coherence/hold.h"

#include <algorithm>

#include "base/check.h"

namespace hecaton::coherence {

bool Hold::Processor::has(PageNumber page) const {
  return std::find(gathered.begin(), gathered.begin() + count, page) != gathered.begin() + count;
}

void Hold::Processor::add(PageNumber page) {
  if (count < kMostGathered) {
    gathered[count++] = page;
    return;
  }
  gathered[oldest] = page;
  oldest = static_cast<uint8_t>((oldest + 1) % kMostGathered);
}

void Hold::fault(ProcessorNumber number, PageNumber page, bool missing, int64_t now_ns) {
  HEC_CHECK(number.value < processors_.size());
  Processor& processor = processors_[number.value];
  if (!processor.waits && now_ns >= processor.until_ns) {
    processor.count = processor.oldest = 0;
    processor.struggles = false;
  }
  if (!processor.has(page)) {
    processor.add(page);
  } else if (missing && !processor.waits) {
    processor.struggles = true;
  }
  processor.waits = true;
  processor.awaited = page;
}

void Hold::came(PageNumber page, int64_t now_ns) {
  for (Processor& processor : processors_) {
    if (!processor.waits || processor.awaited != page) continue;
    processor.waits = false;
    processor.until_ns = now_ns + hold_ns_;
  }
}

void Hold::failed(PageNumber page) {
  for (Processor& processor : processors_) {
    if (processor.waits && processor.awaited == page) processor = Processor();
  }
}

int64_t Hold::kept_until(PageNumber page, int64_t now_ns) const {
  int64_t until = now_ns;
  for (const Processor& processor : processors_) {
    if (processor.waits) {
      const bool keeps = processor.struggles && page < processor.awaited;
      if (keeps && processor.has(page)) return kUntilItCame;
    } else if (processor.until_ns > until && processor.has(page)) {
      until = processor.until_ns;
    }
  }
  return until;
}

void Hold::append_state(int64_t now_ns, std::vector<uint64_t>& out) const {
  for (const Processor& processor : processors_) {
    const bool runs_held = !processor.waits && processor.until_ns > now_ns;
    const bool matters = processor.waits || runs_held;
    out.push_back(static_cast<uint64_t>(processor.waits) | static_cast<uint64_t>(processor.struggles && matters) << 1 |
                  (runs_held ? static_cast<uint64_t>(processor.until_ns - now_ns) << 2 : 0));
    if (!matters) continue;
    out.push_back(processor.waits ? processor.awaited.value : 0);
    out.push_back(processor.count);
    std::vector<uint64_t> pages;
    for (size_t i = 0; i < processor.count; ++i) pages.push_back(processor.gathered[i].value);
    std::sort(pages.begin(), pages.end());  // their order matters only once all places are taken
    out.insert(out.end(), pages.begin(), pages.end());
  }
}

}  // namespace hecaton::coherence
