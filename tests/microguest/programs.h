// The programs of programs.S, and what must hold after them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hecaton::microguest {

using Code = uint64_t (*)(void* memory, uint64_t node, uint64_t nodes, uint64_t count, uint64_t* seen);

// What a run of a program left behind.
struct Outcome {
  uint64_t nodes, count;
  std::vector<std::span<const uint64_t>> seen;  // what each node put down
  std::span<const uint64_t> memory;             // guest memory, as node 0 reads it
};

struct Verdict {
  const char* fault = nullptr;  // null: as it must be
  std::string outcomes;         // how often each was seen, where a run has several
};

struct Program {
  std::string_view name;
  Code code;
  uint64_t nodes;       // that it needs; 0: any number
  uint64_t round;       // runs in a round: it does whole rounds only
  uint64_t words_seen;  // that each node puts down for each run
  uint64_t ci_count;    // runs that take well under a second
  Verdict (*check)(const Outcome& outcome);
};
std::span<const Program> programs();

// The bytes of all programs: a guest gets a copy.
std::span<const std::byte> all_code();
uint64_t offset_of(Code code);

inline constexpr uint64_t kGuestPages = 16;  // of all nodes together

}  // namespace hecaton::microguest
