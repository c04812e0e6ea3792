// Writes that go to every copy of an extent: one batch, one acknowledgement when all donors have taken it.
//
// A batch fails as a whole if a donor that it waits for is given up, refuses it, or if the extent got other copies
// while it was under way: what was acknowledged then is not what protection asks for now. Its pages stay here, and
// leave anew.
//
// Pure: no descriptor, no clock. One thread. A batch number is used again; ids tell its uses apart, so that an answer
// to one that failed is known for what it is.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "placement/copy_set.h"
#include "wire/frame.h"

namespace hecaton {

class WriteFanout {
 public:
  explicit WriteFanout(size_t batches);

  // A batch for these copies, all of which are sent the same. The id to send.
  uint64_t begin(uint64_t batch, ExtentNumber extent, CopySet copies);

  struct Answer {
    bool known = false;    // somebody waits for it
    bool settled = false;  // it was the last one: the batch is over
    bool failed = false;   // of a settled one: nothing may leave on its account
    bool full = false;     // this donor has no room for it
    uint64_t batch = 0;
  };
  // Error: the donor broke the protocol, and owes the answer as before.
  Result<Answer> answered(uint64_t id, size_t donor, CopySet copies_now, wire::Status status,
                          std::span<const std::byte> body);
  // Of the batch that was settled last: the pages that some donor did not take, for their checksum was wrong.
  std::span<const PageNumber> rejected() const { return rejected_; }

  // The extent of a batch under way, while that donor owes its answer.
  std::optional<ExtentNumber> owes(uint64_t batch, size_t donor) const;
  // Ends it as failed, without waiting for answers.
  void give_up(uint64_t batch) { batches_[batch].used = false; }
  bool under_way(uint64_t batch) const { return batches_[batch].used; }
  size_t batches() const { return batches_.size(); }

 private:
  struct Batch {
    bool used = false, failed = false;
    uint32_t generation = 0;
    ExtentNumber extent;
    CopySet copies, owing;
    std::vector<PageNumber> rejected;
  };
  static constexpr unsigned kBatchBits = 8;
  std::vector<Batch> batches_;
  std::vector<PageNumber> rejected_;
};

}  // namespace hecaton
