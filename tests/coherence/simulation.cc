#include "simulation.h"

#include <map>
#include <optional>
#include <queue>
#include <random>
#include <vector>

#include "coherence/core.h"

namespace hecaton::coherence::check {
namespace {

struct Need {
  uint64_t page;
  Access access;
};

class Simulation {
 public:
  explicit Simulation(const SimulationOptions& options) : options_(options), random_(options.seed) {
    std::vector<uint64_t> pages(options.nodes, options.pages / options.nodes);
    pages[0] += options.pages % options.nodes;
    const HomeMap homes(pages);
    for (size_t node = 0; node < options.nodes; ++node) {
      Config config{NodeId(node), homes, options.processors_of_a_node, options.hold_ns};
      nodes_.push_back(Node{Core(config), std::vector<Memory>(options.pages), INT64_MAX, true, SIZE_MAX});
    }
    processors_.resize(options.nodes * options.processors_of_a_node);
    newest_.assign(options.pages, 0);
  }

  SimulationReport run() {
    for (size_t p = 0; p < processors_.size(); ++p) {
      choose_instruction(p);
      at(now_ + below(1000), {Event::Kind::kTry, p});
    }
    if (options_.node_dies) at(options_.message_ns * 400, {Event::Kind::kDeath, below(options_.nodes)});
    while (!events_.empty() && report_.breach.empty()) {
      const Scheduled next = events_.top();
      events_.pop();
      now_ = next.at_ns;
      happen(next.event);
    }
    for (size_t p = 0; p < processors_.size() && report_.breach.empty(); ++p) {
      const bool over = processors_[p].failed || processors_[p].executed == options_.instructions;
      if (!over && nodes_[node_of(p)].lives) {
        const uint64_t page = processors_[p].awaited;
        std::string where;
        for (Node& node : nodes_)
          where += std::string(" ") + (node.lives ? name_of(node.core.state(PageNumber(page))) : "dead");
        for (Node& node : nodes_) {
          if (node.lives && node.core.directory().has(PageNumber(page))) {
            where += std::string("; home ") + name_of(node.core.directory().state(PageNumber(page)));
          }
        }
        breach("processor " + std::to_string(p) + " waits for ever for page " + std::to_string(page) + ":" + where);
      }
    }
    report_.time_ns = now_;
    return report_;
  }

 private:
  enum class Mapping : uint8_t { kNone, kRead, kWrite };
  struct Memory {
    Mapping mapping = Mapping::kNone;
    std::optional<uint64_t> value;
  };
  struct Node {
    Core core;
    std::vector<Memory> memory;
    int64_t timer_ns;
    bool lives;
    size_t knows_dead = SIZE_MAX;
  };
  struct Processor {
    std::vector<Need> instruction;
    bool waits = false;
    bool failed = false;
    uint64_t awaited = 0;
    uint64_t executed = 0;
    int64_t since_ns = -1;  // the instruction's first fault
  };
  struct Event {
    enum class Kind : uint8_t { kTry, kFault, kLetter, kTimer, kDeath, kHears };
    Kind kind;
    size_t number;  // of the processor or node
    Need need{};
    size_t from = 0;
    Message message{};
    uint64_t value = 0;
  };
  struct Scheduled {
    int64_t at_ns;
    uint64_t order;
    Event event;
    bool operator<(const Scheduled& other) const {
      return at_ns != other.at_ns ? at_ns > other.at_ns : order > other.order;
    }
  };

  uint64_t below(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(random_); }
  size_t node_of(size_t processor) const { return processor / options_.processors_of_a_node; }
  void at(int64_t time_ns, const Event& event) { events_.push({time_ns, order_++, event}); }
  void breach(const std::string& what) {
    if (report_.breach.empty()) report_.breach = what + ", at " + std::to_string(now_) + " ns";
  }

  void choose_instruction(size_t p) {
    std::vector<Need>& instruction = processors_[p].instruction;
    instruction.clear();
    if (options_.opposite_ways) {
      const uint64_t first = node_of(p) % 2;
      instruction = {{first, Access::kWrite}, {1 - first, Access::kWrite}};
      return;
    }
    const size_t needs = 1 + below(options_.most_needs);
    for (size_t i = 0; i < needs; ++i) {
      const uint64_t page = below(2) == 0 ? below(options_.hot_pages) : below(options_.pages);
      instruction.push_back({page, below(3) == 0 ? Access::kWrite : Access::kRead});
      if (below(4) == 0) instruction.push_back({page, Access::kWrite});
    }
  }

  void happen(const Event& event) {
    switch (event.kind) {
      case Event::Kind::kTry:
        return try_instruction(event.number);
      case Event::Kind::kFault:
        if (!nodes_[node_of(event.number)].lives) return;
        ++report_.faults;
        return tell(node_of(event.number), event, [&](Core& core, Actions& actions) {
          return core.fault(ProcessorNumber(event.number % options_.processors_of_a_node), PageNumber(event.need.page),
                            event.need.access, now_, actions);
        });
      case Event::Kind::kLetter:
        if (!nodes_[event.number].lives || nodes_[event.number].knows_dead == event.from) return;
        return tell(event.number, event, [&](Core& core, Actions& actions) {
          return core.receive(NodeId(event.from), event.message, now_, actions);
        });
      case Event::Kind::kTimer:
        if (!nodes_[event.number].lives || nodes_[event.number].timer_ns != now_) return;
        return tell(event.number, event, [&](Core& core, Actions& actions) { return core.timer(now_, actions); });
      case Event::Kind::kDeath:
        return die(event.number);
      case Event::Kind::kHears:
        nodes_[event.number].knows_dead = event.from;
        return tell(event.number, event, [&](Core& core, Actions& actions) {
          Loss loss;
          return core.node_lost(NodeId(event.from), now_, actions, loss);
        });
    }
  }

  void try_instruction(size_t p) {
    Processor& processor = processors_[p];
    Node& node = nodes_[node_of(p)];
    if (!node.lives || processor.failed) return;
    for (const Need& need : processor.instruction) {
      const Mapping needed = need.access == Access::kWrite ? Mapping::kWrite : Mapping::kRead;
      if (node.memory[need.page].mapping >= needed) continue;
      if (processor.since_ns < 0) processor.since_ns = now_;
      processor.waits = true;
      processor.awaited = need.page;
      at(now_ + 500 + static_cast<int64_t>(below(2000)), {Event::Kind::kFault, p, need});
      // The same event once more, late: the kernel does that.
      if (below(20) == 0) at(now_ + static_cast<int64_t>(below(500'000)), {Event::Kind::kFault, p, need});
      return;
    }
    execute(p);
  }

  void execute(size_t p) {
    Processor& processor = processors_[p];
    for (const Need& need : processor.instruction) {
      Memory& memory = nodes_[node_of(p)].memory[need.page];
      if (memory.value != newest_[need.page]) return breach("a stale read or a lost write");
      if (need.access == Access::kWrite) memory.value = newest_[need.page] = ++written_;
    }
    if (processor.since_ns >= 0) report_.longest_wait_ns = std::max(report_.longest_wait_ns, now_ - processor.since_ns);
    processor.since_ns = -1;
    ++report_.executed;
    if (++processor.executed == options_.instructions) return;
    choose_instruction(p);
    at(now_ + 200 + static_cast<int64_t>(below(5000)), {Event::Kind::kTry, p});
  }

  template <typename Tell>
  void tell(size_t number, const Event& event, Tell tell_core) {
    actions_.clear();
    const Result<void> result = tell_core(nodes_[number].core, actions_);
    if (!result.ok()) return breach(std::string("a core refuses: ") + result.error().context);
    for (const Action& action : actions_) perform(number, action, event);
    look(actions_);
  }

  void perform(size_t number, const Action& action, const Event& event) {
    if (action.kind == ActionKind::kTimer) {
      nodes_[number].timer_ns = action.at_ns;
      return at(action.at_ns, {Event::Kind::kTimer, number});
    }
    Memory& memory = nodes_[number].memory[action.page.value];
    switch (action.kind) {
      case ActionKind::kSend:
        return send(number, memory, action);
      case ActionKind::kKeep:
        if (memory.mapping != Mapping::kNone) breach("bytes are put in place under a mapping");
        memory.value = event.value;
        return;
      case ActionKind::kMakeZero:
        if (memory.mapping != Mapping::kNone) breach("zeros are put in place under a mapping");
        memory.value = 0;
        return;
      case ActionKind::kMapRead:
      case ActionKind::kMapWrite:
        memory.mapping = action.kind == ActionKind::kMapRead ? Mapping::kRead : Mapping::kWrite;
        if (!memory.value) breach("a page without bytes is mapped");
        return wake(number, action.page.value, false);
      case ActionKind::kProtect:
        memory.mapping = std::min(memory.mapping, Mapping::kRead);
        return;
      case ActionKind::kZap:
        memory.mapping = Mapping::kNone;
        return;
      case ActionKind::kDrop:
        if (memory.mapping != Mapping::kNone) breach("bytes are dropped under a mapping");
        memory.value.reset();
        return;
      case ActionKind::kFail:
        if (memory.mapping != Mapping::kNone) breach("a page fails that can be reached");
        return wake(number, action.page.value, true);
      case ActionKind::kTimer:
        return;
    }
  }

  void send(size_t from, const Memory& memory, const Action& action) {
    ++report_.messages;
    report_.pages_sent += action.message.carries_page;
    if (action.message.carries_page && !memory.value) breach("a page without bytes is sent");
    if (action.message.kind == Kind::kExclusive && memory.mapping != Mapping::kNone) breach("sent away while mapped");
    const Event event{Event::Kind::kLetter, action.to.value, {}, from, action.message, memory.value.value_or(0)};
    // In order for one page between two nodes, and in no other.
    int64_t& last = last_arrival_[{from, action.to.value, action.page.value}];
    last = std::max(last + 1, now_ + options_.message_ns + static_cast<int64_t>(below(3 * options_.message_ns)));
    at(last, event);
  }

  void wake(size_t number, uint64_t page, bool fails) {
    for (size_t i = 0; i < options_.processors_of_a_node; ++i) {
      const size_t p = number * options_.processors_of_a_node + i;
      Processor& processor = processors_[p];
      if (!processor.waits || processor.awaited != page) continue;
      processor.waits = false;
      processor.failed = fails;
      report_.failed += fails;
      at(now_ + 100 + static_cast<int64_t>(below(5000)), {Event::Kind::kTry, p});
    }
  }

  void look(const Actions& actions) {
    for (const Action& action : actions) {
      if (action.kind != ActionKind::kMapRead && action.kind != ActionKind::kMapWrite) continue;
      size_t mapped = 0, writable = 0;
      for (const Node& node : nodes_) {
        const Mapping mapping = node.memory[action.page.value].mapping;
        mapped += node.lives && mapping != Mapping::kNone;
        writable += node.lives && mapping == Mapping::kWrite;
      }
      if (writable > 1 || (writable == 1 && mapped > 1)) breach("a page is writable while others reach it");
    }
  }

  // The others hear of it each in its own time.
  void die(size_t number) {
    nodes_[number].lives = false;
    for (size_t other = 0; other < options_.nodes; ++other) {
      const auto delay = static_cast<int64_t>(below(10 * static_cast<uint64_t>(options_.message_ns)));
      if (other != number) at(now_ + delay, {Event::Kind::kHears, other, {}, number});
    }
  }

  SimulationOptions options_;
  std::mt19937_64 random_;
  std::vector<Node> nodes_;
  std::vector<Processor> processors_;
  std::vector<uint64_t> newest_;
  uint64_t written_ = 0;
  uint64_t order_ = 0;
  int64_t now_ = 0;
  std::priority_queue<Scheduled> events_;
  std::map<std::tuple<size_t, size_t, uint64_t>, int64_t> last_arrival_;
  Actions actions_;
  SimulationReport report_;
};

}  // namespace

SimulationReport simulate(const SimulationOptions& options) {
  return Simulation(options).run();
}

}  // namespace hecaton::coherence::check
