// What QEMU's preload library and the supervisor say to each other over the handover socket, once:
//
//   preload → supervisor   HandoverMessage, with the userfaultfds of the guest's RAM as SCM_RIGHTS
//   supervisor → preload   HandoverAnswer: from then on a pager serves the range's page faults
//
// There is a userfaultfd for each shard of the pager. Stripes of the RAM are registered with them in turn: the first
// with the first. (One alone has all of it.) The end of the socket instead of an answer means no. Little-endian; both
// sides run on one machine, yet may be of different builds, hence magic and version. Plain structs: the preload library
// has no C++ runtime.
#pragma once

#include <stdint.h>

namespace hecaton::wire {

inline constexpr uint64_t kHandoverMagic = 0x31766f4861636548;  // "HecaHov1"
inline constexpr uint64_t kAnswerMagic = 0x31736e4161636548;    // "HecaAns1"
inline constexpr uint32_t kHandoverVersion = 3;
inline constexpr uint32_t kHandoverMostShards = 16;

inline constexpr uint32_t kHandoverAccepted = 1;
inline constexpr uint32_t kHandoverRefused = 2;

struct HandoverMessage {
  uint64_t magic;
  uint32_t version;
  uint32_t pid;                              // of the process that mapped the RAM
  uint64_t address;                          // where it is mapped there; page-aligned
  uint64_t bytes;                            // a multiple of the page size
  uint64_t file_offset;                      // of the mapping's first byte in the memory file
  uint64_t stripe;                           // bytes; a multiple of the page size, not 0
  uint32_t shards;                           // userfaultfds: 1 to kHandoverMostShards
  uint32_t reserved;                         // 0
  int32_t descriptors[kHandoverMostShards];  // the userfaultfds' numbers in that process; unused ones 0
};
static_assert(sizeof(HandoverMessage) == 120 && alignof(HandoverMessage) == 8);

struct HandoverAnswer {
  uint64_t magic;
  uint32_t version;
  uint32_t status;  // kHandoverAccepted or kHandoverRefused
};
static_assert(sizeof(HandoverAnswer) == 16 && alignof(HandoverAnswer) == 8);

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

}  // namespace hecaton::wire
