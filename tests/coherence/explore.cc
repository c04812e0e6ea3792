#include "explore.h"

#include <algorithm>

#include "base/check.h"

namespace hecaton::coherence::check {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

// States in one array, found by hash.
class StateSet {
 public:
  explicit StateSet(size_t words) : words_(words), places_(1 << 16, kNone) {}

  size_t size() const { return count_; }
  State get(uint32_t number) const {
    auto first = data_.begin() + static_cast<ptrdiff_t>(number * words_);
    return State(first, first + static_cast<ptrdiff_t>(words_));
  }
  // Its number, and whether it is new.
  std::pair<uint32_t, bool> add(const State& state) {
    if (2 * count_ >= places_.size()) grow();
    size_t at = place_of(state.data());
    if (places_[at] != kNone) return {places_[at], false};
    places_[at] = static_cast<uint32_t>(count_++);
    data_.insert(data_.end(), state.begin(), state.end());
    return {places_[at], true};
  }

 private:
  size_t place_of(const uint32_t* state) const {
    uint64_t hash = 0x9e3779b97f4a7c15;
    for (size_t i = 0; i < words_; ++i) {
      hash = (hash ^ state[i]) * 0xff51afd7ed558ccd;
      hash ^= hash >> 32;
    }
    size_t at = hash & (places_.size() - 1);
    while (places_[at] != kNone && !std::equal(state, state + words_, &data_[places_[at] * words_])) {
      at = (at + 1) & (places_.size() - 1);
    }
    return at;
  }
  void grow() {
    places_.assign(places_.size() * 4, kNone);
    for (size_t i = 0; i < count_; ++i) places_[place_of(&data_[i * words_])] = static_cast<uint32_t>(i);
  }

  size_t words_;
  size_t count_ = 0;
  std::vector<uint32_t> data_;
  std::vector<uint32_t> places_;
};

struct Edge {
  uint32_t to;
  uint8_t move_class;
  uint8_t completes;  // the processor + 1
};

class Explorer {
 public:
  explicit Explorer(const Machine& machine) : machine_(machine), world_(machine), set_(world_.first().size()) {
    HEC_CHECK(world_.classes() < 256);
  }

  Report run(uint64_t most_states) {
    set_.add(world_.first());
    parents_.push_back({kNone, {}});
    for (uint32_t at = 0; at < set_.size() && report_.breach.empty(); ++at) {
      if (set_.size() > most_states) {
        report_.complete = false;
        break;
      }
      visit(at);
    }
    first_edge_.push_back(edges_.size());
    report_.states = set_.size();
    report_.moves = edges_.size();
    const bool promises = !machine_.time_flies && !machine_.may_die;
    for (size_t p = 0; promises && p < world_.processors() && report_.breach.empty() && report_.complete; ++p) {
      find_starvation(p);
    }
    return std::move(report_);
  }

 private:
  struct Parent {
    uint32_t state;
    Move move;
  };

  void visit(uint32_t at) {
    const State state = set_.get(at);
    first_edge_.push_back(edges_.size());
    world_.moves(state, moves_);
    if (moves_.empty() && !world_.all_done(state)) return fail("a deadlock", at, nullptr);
    for (Move move : moves_) {
      Outcome outcome = world_.make(state, move);
      if (outcome.breach != nullptr) return fail(outcome.breach, at, &move);
      auto [to, is_new] = set_.add(outcome.state);
      if (is_new) parents_.push_back({at, move});
      edges_.push_back({to, static_cast<uint8_t>(world_.class_of(move)),
                        static_cast<uint8_t>(outcome.completed ? *outcome.completed + 1 : 0)});
    }
  }

  void fail(const std::string& breach, uint32_t at, const Move* last) {
    report_.breach = breach;
    if (last != nullptr) report_.trace = world_.describe(set_.get(at), *last) + "\n";
    for (; parents_[at].state != kNone; at = parents_[at].state) {
      report_.trace = world_.describe(set_.get(parents_[at].state), parents_[at].move) + "\n" + report_.trace;
    }
  }

  // Tarjan's algorithm, without recursion, on the graph without the processor's completions.
  void find_starvation(size_t processor) {
    const uint32_t states = static_cast<uint32_t>(set_.size());
    std::vector<uint32_t> index(states, kNone), low(states, 0);
    std::vector<bool> on_stack(states, false);
    std::vector<uint32_t> stack, path;
    std::vector<uint64_t> next(states);
    uint32_t counter = 0;
    auto enter = [&](uint32_t at) {
      index[at] = low[at] = counter++;
      next[at] = first_edge_[at];
      stack.push_back(at);
      on_stack[at] = true;
      path.push_back(at);
    };
    for (uint32_t root = 0; root < states; ++root) {
      if (index[root] != kNone) continue;
      enter(root);
      while (!path.empty()) {
        const uint32_t at = path.back();
        if (next[at] < first_edge_[at + 1]) {
          const Edge& edge = edges_[next[at]++];
          if (edge.completes == processor + 1) continue;
          if (index[edge.to] == kNone) {
            enter(edge.to);
          } else if (on_stack[edge.to]) {
            low[at] = std::min(low[at], index[edge.to]);
          }
          continue;
        }
        path.pop_back();
        if (!path.empty()) low[path.back()] = std::min(low[path.back()], low[at]);
        if (low[at] != index[at]) continue;
        std::vector<uint32_t> component;
        uint32_t member;
        do {
          member = stack.back();
          stack.pop_back();
          on_stack[member] = false;
          component.push_back(member);
        } while (member != at);
        if (starves(processor, component)) return;
      }
    }
  }

  bool starves(size_t processor, const std::vector<uint32_t>& component) {
    if (world_.is_done(set_.get(component.front()), processor)) return false;
    // Members get marks, to tell edges within from edges out.
    if (marks_.size() < set_.size()) marks_.assign(set_.size(), 0);
    ++mark_;
    for (uint32_t member : component) marks_[member] = mark_;
    std::vector<bool> fair(world_.classes(), false);
    bool any = false;
    for (uint32_t member : component) {
      std::vector<bool> possible(world_.classes(), false);
      for (uint64_t e = first_edge_[member]; e < first_edge_[member + 1]; ++e) {
        possible[edges_[e].move_class] = true;
        if (edges_[e].completes == processor + 1 || marks_[edges_[e].to] != mark_) continue;
        fair[edges_[e].move_class] = any = true;
      }
      for (size_t c = 0; c < possible.size(); ++c) fair[c] = fair[c] || !possible[c];
    }
    if (!any || std::find(fair.begin(), fair.end(), false) != fair.end()) return false;
    fail("processor " + std::to_string(processor) + " never gets on, in a circle of " +
             std::to_string(component.size()) + " states",
         component.back(), nullptr);
    return true;
  }

  Machine machine_;
  World world_;
  StateSet set_;
  Report report_;
  std::vector<Parent> parents_;
  std::vector<Edge> edges_;
  std::vector<uint64_t> first_edge_;
  std::vector<Move> moves_;
  std::vector<uint32_t> marks_;
  uint32_t mark_ = 0;
};

}  // namespace

Report explore(const Machine& machine, uint64_t most_states) {
  return Explorer(machine).run(most_states);
}

}  // namespace hecaton::coherence::check
