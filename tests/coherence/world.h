// A small machine of several nodes, all of whose states can be visited: real cores (src/coherence), and around them a
// model of what is not theirs: processors, mappings, bytes, and channels that keep their order and nothing else.
//
// Bytes are either the newest of their page or stale. Each access and each action is checked:
//   single writer     a page mapped for writing at one node is mapped at no other
//   no stale read     what is mapped and read is the newest
//   no lost write     what is mapped and written is the newest; what is sent can no longer be written behind its back
// Deadlock and starvation are seen in the graph of the states: see explore.h.
//
// A processor executes an instruction when all pages that it needs are mapped as it needs them, all at once; otherwise
// it faults on the first that is not. The core hears of a fault later than it happens. Time passes at a node only when
// its core waits for it, and only once each of its processors that was woken has tried again: a hold is long enough.
//
// Cores are values here: each distinct one is kept once, and what an event makes of it is computed once.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "coherence/core.h"

namespace hecaton::coherence::check {

struct Need {
  uint64_t page;
  Access access;
};
using Instruction = std::vector<Need>;
struct Program {
  size_t node;
  std::vector<Instruction> instructions;
  bool forever = false;  // begins again after the last
};
struct Machine {
  std::string name;
  std::vector<uint64_t> pages;  // of each node's range
  std::vector<Program> programs;
  int64_t hold_ns = 1;
  uint32_t version_mask = 1;
  bool time_flies = false;          // time may pass at any moment: nothing is promised then about getting on
  std::optional<size_t> may_die{};  // this node, at any moment: then nothing may be stale, and nobody waits who is not
                                    // told that it is lost
};

inline Instruction reads(uint64_t page) {
  return {{page, Access::kRead}};
}
inline Instruction writes(uint64_t page) {
  return {{page, Access::kWrite}};
}

// A state, packed: numbers of cores and channels, and a word for each processor, mapping and page.
using State = std::vector<uint32_t>;

// What can happen in a state.
struct Move {
  enum class Kind : uint8_t { kProcessor, kFault, kDeliver, kTimer, kDeath, kHears };
  Kind kind;
  uint16_t number;  // of the processor, channel or node
};

struct Outcome {
  State state;
  std::optional<size_t> completed;  // the processor that executed an instruction
  const char* breach = nullptr;
};

class World {
 public:
  explicit World(const Machine& machine);

  State first() const { return first_; }
  void moves(const State& state, std::vector<Move>& out) const;
  Outcome make(const State& state, Move move);
  bool is_done(const State& state, size_t processor) const;
  bool all_done(const State& state) const;
  size_t processors() const { return machine_.programs.size(); }
  // Moves of one class are fair to each other: if one stays possible, one of the class is made at last.
  size_t class_of(Move move) const;
  size_t classes() const { return processors() + channels_ + 2 * nodes_; }
  std::string describe(const State& state, Move move) const;

 private:
  // Woken: and has not tried again since. Running: it has executed an instruction since, or just begins.
  enum Status : uint32_t { kRunning, kWoken, kFaulting, kWaiting, kDone, kDead };
  enum Bytes : uint32_t { kNoBytes, kNewest, kStale };
  enum Mapping : uint32_t { kUnmapped, kReadable, kWritable };
  struct Known {
    Core core;
    int64_t now_ns;
    bool timer;
  };
  struct Effect {
    uint32_t core;
    std::vector<Action> actions;
    bool refused;
  };
  struct Event {
    enum class Kind : uint8_t { kFault, kReceive, kTimer, kLost };
    Kind kind;
    size_t from = 0;  // node or processor
    Need need{};
    Message message{};
  };
  struct Letter {
    Message message;
    Bytes bytes;
    bool operator==(const Letter&) const = default;
  };

  size_t channel(size_t from, size_t to, uint64_t page) const { return (from * nodes_ + to) * pages_ + page; }
  uint32_t& cell(State& s, size_t node, uint64_t page) const { return s[cells_at_ + node * pages_ + page]; }
  uint32_t cell(const State& s, size_t node, uint64_t page) const { return s[cells_at_ + node * pages_ + page]; }
  static Mapping mapping(uint32_t cell) { return static_cast<Mapping>(cell >> 2); }
  static Bytes bytes(uint32_t cell) { return static_cast<Bytes>(cell & 3); }
  static uint32_t make_cell(Mapping m, Bytes b) { return static_cast<uint32_t>(m) << 2 | b; }
  Status status(const State& s, size_t p) const { return static_cast<Status>(s[processors_at_ + p] & 7); }
  size_t place(const State& s, size_t p) const { return s[processors_at_ + p] >> 8; }
  void set_processor(State& s, size_t p, Status status, size_t need, size_t place) const {
    s[processors_at_ + p] = status | static_cast<uint32_t>(need) << 3 | static_cast<uint32_t>(place) << 8;
  }
  const Need& awaited(const State& s, size_t p) const;
  bool lives(const State& s, size_t node) const { return (s[dead_at_] >> node & 1) == 0; }
  // Of a machine in which a node is dead: whether this one has still to hear of it.
  bool is_unaware(const State& s, size_t node) const { return lives(s, node) && (s[dead_at_] >> (8 + node) & 1) == 0; }

  uint32_t intern_core(Core core, int64_t now_ns);
  uint32_t intern_letters(const std::vector<Letter>& letters);
  uint32_t intern_event(const Event& event);
  const Effect& effect_of(uint32_t core, const Event& event);
  void run_processor(Outcome& out, size_t p);
  void execute(Outcome& out, size_t p);
  void written(State& s, size_t node, uint64_t page);
  void tell_core(Outcome& out, size_t node, const Event& event, Bytes came);
  const char* perform(State& s, size_t node, const Action& action, const Event& event, Bytes came);
  const char* send(State& s, size_t node, const Action& action);
  void wake(State& s, size_t node, uint64_t page, Status to) const;
  void die(Outcome& out, size_t node);
  void hear(Outcome& out, size_t node);
  const char* look(const State& s) const;

  Machine machine_;
  size_t nodes_, channels_, processors_at_, cells_at_, written_at_, dead_at_;
  uint64_t pages_;
  State first_;
  std::vector<Known> cores_;
  std::unordered_map<std::string, uint32_t> core_numbers_, letter_numbers_, event_numbers_;
  std::vector<std::vector<Letter>> letters_;
  std::unordered_map<uint64_t, Effect> effects_;
};

}  // namespace hecaton::coherence::check
