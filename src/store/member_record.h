// What outlives the pager about one donor of its pool: plain bytes in the state memory, all zeros if there is none.
// They lie in the order of the donors' numbers, without gaps. Whoever takes over reads them when their writer is dead.
#pragma once

#include <atomic>
#include <cstdint>

namespace hecaton {

struct MemberRecord {
  enum State : uint32_t { kNone = 0, kMember = 1, kLost = 2, kGone = 3 };
  enum Flag : uint32_t { kLocalDisk = 1, kLeaving = 2, kRemoved = 4 };
  std::atomic<uint32_t> state;  // written after all the rest
  std::atomic<uint32_t> flags;
  uint64_t instance;              // of the donor's process: another one holds nothing
  uint64_t region_id;             // there: one that was made anew holds nothing
  std::atomic<uint64_t> extents;  // its share, reserved there
  uint32_t inherits_from;         // 1 + the number whose copies are this one's; 0: none
  uint32_t protection;            // of the pool: in all records the same
  uint64_t spare[2];
  char url[456];  // with its token, ending with a zero: a secret
};
static_assert(sizeof(MemberRecord) == 512);

}  // namespace hecaton
