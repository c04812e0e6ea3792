#include "world.h"

#include "base/check.h"

namespace hecaton::coherence::check {
namespace {

template <typename Word>
std::string key_of(const std::vector<Word>& words) {
  return std::string(reinterpret_cast<const char*>(words.data()), words.size() * sizeof(Word));
}

void append(const Message& m, std::vector<uint64_t>& out) {
  out.insert(out.end(), {static_cast<uint64_t>(m.kind) << 8 | static_cast<uint64_t>(m.carries_page) << 2 |
                             static_cast<uint64_t>(m.to_read) << 1 | static_cast<uint64_t>(m.unwritten),
                         m.requester.value, m.version, m.page.value, m.await.bits()});
}

}  // namespace

World::World(const Machine& machine)
    : machine_(machine), nodes_(machine.pages.size()), pages_(HomeMap(machine.pages).pages()) {
  channels_ = nodes_ * nodes_ * pages_;
  processors_at_ = nodes_ + channels_;
  cells_at_ = processors_at_ + machine.programs.size();
  written_at_ = cells_at_ + nodes_ * pages_;
  dead_at_ = written_at_ + 1;
  first_.assign(dead_at_ + 1, 0);
  letters_.emplace_back();
  letter_numbers_[""] = 0;
  const HomeMap homes(machine.pages);
  for (size_t node = 0; node < nodes_; ++node) {
    Config config{NodeId(node), homes, machine.programs.size(), machine.hold_ns, machine.version_mask};
    first_[node] = intern_core(Core(config), 0);
  }
}

uint32_t World::intern_core(Core core, int64_t now_ns) {
  std::vector<uint64_t> words{core.self().value};
  core.append_state(now_ns, words);
  auto [found, is_new] = core_numbers_.try_emplace(key_of(words), static_cast<uint32_t>(cores_.size()));
  if (is_new) {
    const bool timer = core.timer_ns() != INT64_MAX;
    cores_.push_back({std::move(core), now_ns, timer});
  }
  return found->second;
}

uint32_t World::intern_letters(const std::vector<Letter>& letters) {
  std::vector<uint64_t> words;
  for (const Letter& letter : letters) {
    append(letter.message, words);
    words.push_back(letter.bytes);
  }
  auto [found, is_new] = letter_numbers_.try_emplace(key_of(words), static_cast<uint32_t>(letters_.size()));
  if (is_new) letters_.push_back(letters);
  return found->second;
}

uint32_t World::intern_event(const Event& event) {
  std::vector<uint64_t> words{static_cast<uint64_t>(event.kind), event.from, event.need.page,
                              static_cast<uint64_t>(event.need.access)};
  append(event.message, words);
  return event_numbers_.try_emplace(key_of(words), static_cast<uint32_t>(event_numbers_.size())).first->second;
}

const World::Effect& World::effect_of(uint32_t number, const Event& event) {
  const uint64_t key = static_cast<uint64_t>(number) << 32 | intern_event(event);
  auto found = effects_.find(key);
  if (found != effects_.end()) return found->second;
  Core core = cores_[number].core;
  int64_t now = cores_[number].now_ns;
  Effect effect{};
  Result<void> result;
  switch (event.kind) {
    case Event::Kind::kFault:
      result =
          core.fault(ProcessorNumber(event.from), PageNumber(event.need.page), event.need.access, now, effect.actions);
      break;
    case Event::Kind::kReceive:
      result = core.receive(NodeId(event.from), event.message, now, effect.actions);
      break;
    case Event::Kind::kTimer:
      now += machine_.hold_ns;
      result = core.timer(now, effect.actions);
      break;
    case Event::Kind::kLost: {
      Loss loss;
      result = core.node_lost(NodeId(event.from), now, effect.actions, loss);
      break;
    }
  }
  effect.refused = !result.ok();
  effect.core = intern_core(std::move(core), now);
  return effects_.emplace(key, std::move(effect)).first->second;
}

bool World::is_done(const State& s, size_t p) const {
  return status(s, p) == kDone || status(s, p) == kDead;
}

bool World::all_done(const State& s) const {
  for (size_t p = 0; p < processors(); ++p) {
    if (!is_done(s, p)) return false;
  }
  return true;
}

const Need& World::awaited(const State& s, size_t p) const {
  return machine_.programs[p].instructions[place(s, p)][s[processors_at_ + p] >> 3 & 31];
}

void World::moves(const State& s, std::vector<Move>& out) const {
  out.clear();
  std::vector<bool> busy(nodes_, false);
  for (size_t p = 0; p < processors(); ++p) {
    const bool ready = status(s, p) == kRunning || status(s, p) == kWoken;
    if (!ready && status(s, p) != kFaulting) continue;
    if (status(s, p) != kRunning) busy[machine_.programs[p].node] = true;
    out.push_back({ready ? Move::Kind::kProcessor : Move::Kind::kFault, static_cast<uint16_t>(p)});
  }
  for (size_t c = 0; c < channels_; ++c) {
    if (s[nodes_ + c] != 0) out.push_back({Move::Kind::kDeliver, static_cast<uint16_t>(c)});
  }
  for (size_t node = 0; node < nodes_; ++node) {
    if (!lives(s, node)) continue;
    if (machine_.time_flies || (cores_[s[node]].timer && !busy[node])) {
      out.push_back({Move::Kind::kTimer, static_cast<uint16_t>(node)});
    }
  }
  if (!machine_.may_die) return;
  if (s[dead_at_] == 0) return out.push_back({Move::Kind::kDeath, static_cast<uint16_t>(*machine_.may_die)});
  for (size_t node = 0; node < nodes_; ++node) {
    if (is_unaware(s, node)) out.push_back({Move::Kind::kHears, static_cast<uint16_t>(node)});
  }
}

size_t World::class_of(Move move) const {
  switch (move.kind) {
    case Move::Kind::kProcessor:
    case Move::Kind::kFault:
      return move.number;
    case Move::Kind::kDeliver:
      return processors() + move.number;
    case Move::Kind::kTimer:
      return processors() + channels_ + move.number;
    case Move::Kind::kDeath:
    case Move::Kind::kHears:
      break;
  }
  return processors() + channels_ + nodes_ + move.number;
}

Outcome World::make(const State& s, Move move) {
  Outcome out{s, {}, nullptr};
  switch (move.kind) {
    case Move::Kind::kProcessor:
      run_processor(out, move.number);
      break;
    case Move::Kind::kFault: {
      const Need need = awaited(s, move.number);
      set_processor(out.state, move.number, kWaiting, s[processors_at_ + move.number] >> 3 & 31, place(s, move.number));
      tell_core(out, machine_.programs[move.number].node, {Event::Kind::kFault, move.number, need, {}}, kNoBytes);
      break;
    }
    case Move::Kind::kDeliver: {
      std::vector<Letter> letters = letters_[s[nodes_ + move.number]];
      const Letter letter = letters.front();
      letters.erase(letters.begin());
      out.state[nodes_ + move.number] = intern_letters(letters);
      const size_t pair = move.number / pages_;
      tell_core(out, pair % nodes_, {Event::Kind::kReceive, pair / nodes_, {}, letter.message}, letter.bytes);
      break;
    }
    case Move::Kind::kTimer:
      tell_core(out, move.number, {Event::Kind::kTimer, 0, {}, {}}, kNoBytes);
      break;
    case Move::Kind::kDeath:
      die(out, move.number);
      break;
    case Move::Kind::kHears:
      hear(out, move.number);
      break;
  }
  if (out.breach == nullptr) out.breach = look(out.state);
  return out;
}

void World::run_processor(Outcome& out, size_t p) {
  State& s = out.state;
  const size_t node = machine_.programs[p].node;
  const Instruction& instruction = machine_.programs[p].instructions[place(s, p)];
  for (size_t i = 0; i < instruction.size(); ++i) {
    const Mapping needed = instruction[i].access == Access::kWrite ? kWritable : kReadable;
    if (mapping(cell(s, node, instruction[i].page)) >= needed) continue;
    return set_processor(s, p, kFaulting, i, place(s, p));
  }
  execute(out, p);
}

void World::execute(Outcome& out, size_t p) {
  State& s = out.state;
  const Program& program = machine_.programs[p];
  for (const Need& need : program.instructions[place(s, p)]) {
    if (bytes(cell(s, program.node, need.page)) != kNewest) {
      out.breach =
          need.access == Access::kRead ? "a stale read" : "a lost write: bytes that are not the newest are written";
      return;
    }
  }
  for (const Need& need : program.instructions[place(s, p)]) {
    if (need.access == Access::kWrite) written(s, program.node, need.page);
  }
  out.completed = p;
  size_t next = place(s, p) + 1;
  const bool over = next == program.instructions.size();
  if (over) next = 0;
  set_processor(s, p, over && !program.forever ? kDone : kRunning, 0, next);
}

// All other bytes of the page are stale from now on, wherever they are.
void World::written(State& s, size_t node, uint64_t page) {
  s[written_at_] |= 1u << page;
  for (size_t other = 0; other < nodes_; ++other) {
    uint32_t& c = cell(s, other, page);
    if (other != node && bytes(c) == kNewest) c = make_cell(mapping(c), kStale);
  }
  for (size_t pair = 0; pair < nodes_ * nodes_; ++pair) {
    uint32_t& number = s[nodes_ + pair * pages_ + page];
    if (number == 0) continue;
    std::vector<Letter> letters = letters_[number];
    for (Letter& letter : letters) {
      if (letter.bytes == kNewest) letter.bytes = kStale;
    }
    number = intern_letters(letters);
  }
}

void World::tell_core(Outcome& out, size_t node, const Event& event, Bytes came) {
  const Effect& effect = effect_of(out.state[node], event);
  if (effect.refused) {
    out.breach = "a core refuses what an honest node says";
    return;
  }
  out.state[node] = effect.core;
  for (const Action& action : effect.actions) {
    if (out.breach == nullptr) out.breach = perform(out.state, node, action, event, came);
  }
}

const char* World::perform(State& s, size_t node, const Action& action, const Event& event, Bytes came) {
  if (action.kind == ActionKind::kTimer) return nullptr;
  const uint64_t page = action.page.value;
  uint32_t& c = cell(s, node, page);
  const bool is_written = (s[written_at_] >> page & 1) != 0;
  switch (action.kind) {
    case ActionKind::kSend:
      return send(s, node, action);
    case ActionKind::kKeep:
      if (mapping(c) != kUnmapped) return "bytes are put in place under a mapping";
      if (bytes(c) != kNoBytes) return "bytes are put over bytes that were never dropped";
      if (event.kind != Event::Kind::kReceive || came == kNoBytes) return "bytes are kept that did not come";
      c = make_cell(kUnmapped, came);
      return nullptr;
    case ActionKind::kMakeZero:
      if (mapping(c) != kUnmapped) return "zeros are put in place under a mapping";
      c = make_cell(kUnmapped, event.kind == Event::Kind::kReceive && came != kNoBytes ? came
                               : is_written                                            ? kStale
                                                                                       : kNewest);
      return nullptr;
    case ActionKind::kMapRead:
    case ActionKind::kMapWrite:
      if (bytes(c) == kNoBytes) return "a page is mapped that has no bytes";
      if (action.kind == ActionKind::kMapRead && mapping(c) == kWritable) return "a mapping is narrowed by chance";
      c = make_cell(action.kind == ActionKind::kMapRead ? kReadable : kWritable, bytes(c));
      wake(s, node, page, kWoken);
      return nullptr;
    case ActionKind::kProtect:
      if (mapping(c) == kWritable) c = make_cell(kReadable, bytes(c));
      return nullptr;
    case ActionKind::kZap:
      c = make_cell(kUnmapped, bytes(c));
      return nullptr;
    case ActionKind::kDrop:
      if (mapping(c) != kUnmapped) return "bytes are dropped under a mapping";
      c = make_cell(kUnmapped, kNoBytes);
      return nullptr;
    case ActionKind::kFail:
      if (s[dead_at_] == 0) return "a page fails though no node died";
      if (mapping(c) != kUnmapped) return "a page fails that can be reached";
      wake(s, node, page, kDead);
      return nullptr;
    case ActionKind::kTimer:
      break;
  }
  return nullptr;
}

const char* World::send(State& s, size_t node, const Action& action) {
  const uint64_t page = action.page.value;
  const uint32_t c = cell(s, node, page);
  Letter letter{action.message, kNoBytes};
  if (action.message.kind == Kind::kShared || action.message.kind == Kind::kExclusive) {
    const bool away = action.message.kind == Kind::kExclusive;
    if (away && mapping(c) != kUnmapped) return "a page is sent away while the guest can reach it";
    if (mapping(c) == kWritable) return "a copy is sent while the guest can write the page";
    if (action.message.carries_page && bytes(c) == kNoBytes) return "a page is sent that has no bytes";
    const bool is_written = (s[written_at_] >> page & 1) != 0;
    if (!action.message.carries_page && is_written) return "a page that was written is sent as zeros";
    letter.bytes = action.message.carries_page ? bytes(c) : kNewest;
  }
  if (!lives(s, action.to.value)) {
    return is_unaware(s, node) ? nullptr : "something is sent to a node that is known to be dead";
  }
  uint32_t& number = s[nodes_ + channel(node, action.to.value, page)];
  std::vector<Letter> letters = letters_[number];
  letters.push_back(letter);
  number = intern_letters(letters);
  return nullptr;
}

void World::wake(State& s, size_t node, uint64_t page, Status to) const {
  for (size_t p = 0; p < processors(); ++p) {
    if (machine_.programs[p].node != node || status(s, p) != kWaiting || awaited(s, p).page != page) continue;
    set_processor(s, p, to, 0, place(s, p));
  }
}

// What was sent to it is gone. What it had sent may arrive until the receiver hears of its death.
void World::die(Outcome& out, size_t node) {
  State& s = out.state;
  s[dead_at_] |= 1u << node;
  for (size_t other = 0; other < nodes_; ++other) {
    for (uint64_t page = 0; page < pages_; ++page) {
      s[nodes_ + channel(other, node, page)] = 0;
      cell(s, node, page) = 0;
    }
  }
  for (size_t p = 0; p < processors(); ++p) {
    if (machine_.programs[p].node == node) set_processor(s, p, kDead, 0, 0);
  }
}

void World::hear(Outcome& out, size_t node) {
  out.state[dead_at_] |= 1u << (8 + node);
  for (uint64_t page = 0; page < pages_; ++page) out.state[nodes_ + channel(*machine_.may_die, node, page)] = 0;
  tell_core(out, node, {Event::Kind::kLost, *machine_.may_die, {}, {}}, kNoBytes);
}

const char* World::look(const State& s) const {
  for (uint64_t page = 0; page < pages_; ++page) {
    size_t mapped = 0, writable = 0;
    for (size_t node = 0; node < nodes_; ++node) {
      mapped += mapping(cell(s, node, page)) != kUnmapped;
      writable += mapping(cell(s, node, page)) == kWritable;
    }
    if (writable > 1) return "two writers";
    if (writable == 1 && mapped > 1) return "a page is mapped for writing while others read it";
  }
  return nullptr;
}

std::string World::describe(const State& s, Move move) const {
  const std::string number = std::to_string(move.number);
  switch (move.kind) {
    case Move::Kind::kProcessor:
      return "processor " + number + " goes on";
    case Move::Kind::kFault:
      return "the core hears of processor " + number + "'s fault on page " +
             std::to_string(awaited(s, move.number).page);
    case Move::Kind::kDeliver: {
      const Message& m = letters_[s[nodes_ + move.number]].front().message;
      const size_t pair = move.number / pages_;
      return std::to_string(pair / nodes_) + " → " + std::to_string(pair % nodes_) + ": " + wire::name_of(m.kind) +
             " page " + std::to_string(m.page.value) + ", requester " + std::to_string(m.requester.value) + ", await " +
             std::to_string(m.await.bits());
    }
    case Move::Kind::kTimer:
      return "time passes at node " + number;
    case Move::Kind::kDeath:
      return "node " + number + " dies";
    case Move::Kind::kHears:
      return "node " + number + " hears of it";
  }
  return "";
}

}  // namespace hecaton::coherence::check
