// Which of this node's processors a faulting thread is, and which page each of them waits for.
//
// A thread gets a number at its first fault. If more threads come than there are numbers, the one whose last fault is
// the longest ago gives its number up: the core then promises less to it (coherence/hold.h), and nothing goes wrong.
//
// One thread; allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "coherence/hold.h"

namespace hecaton::node {

using coherence::ProcessorNumber;

class ProcessorTable {
 public:
  explicit ProcessorTable(size_t processors) : processors_(processors) {}

  // `thread` as the kernel numbers it; 0 is unknown, and shares one number.
  ProcessorNumber number_of(uint32_t thread);

  void waits(ProcessorNumber processor, PageNumber page, int64_t now_ns);
  // The page was mapped, or will not come. The longest time that any of those who waited for it did; 0 if none did.
  int64_t came(PageNumber page, int64_t now_ns);
  bool any_waits() const { return waiting_ > 0; }

 private:
  struct Processor {
    uint32_t thread = 0;
    bool known = false;
    uint64_t last_fault = 0;
    std::optional<PageNumber> awaited;
    int64_t since_ns = 0;
  };
  std::vector<Processor> processors_;
  size_t waiting_ = 0;
  uint64_t faults_ = 0;
};

}  // namespace hecaton::node
