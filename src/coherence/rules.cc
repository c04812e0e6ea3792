#include "coherence/rules.h"

namespace hecaton::coherence {
namespace {

constexpr uint8_t kNone = 255;

template <typename Rule, size_t states, size_t events>
struct Table {
  std::array<std::array<uint8_t, events>, states> number{};  // of the rule in its list
  bool each_once = true;

  template <size_t rules>
  constexpr explicit Table(const Rule (&list)[rules]) {
    static_assert(rules < kNone);
    for (auto& row : number) row.fill(kNone);
    for (size_t i = 0; i < rules; ++i) {
      uint8_t& place = number[static_cast<size_t>(list[i].from)][static_cast<size_t>(list[i].on)];
      each_once = each_once && place == kNone;
      place = static_cast<uint8_t>(i);
    }
  }
};

constexpr Table<NodeRule, kNodeStates, kNodeEvents> kNodeTable(kNodeRules);
constexpr Table<HomeRule, kHomeStates, kHomeEvents> kHomeTable(kHomeRules);
static_assert(kNodeTable.each_once && kHomeTable.each_once, "a state and an event have two rules");

}  // namespace

const NodeRule* find_rule(NodeState state, NodeEvent event) {
  const uint8_t number = kNodeTable.number[static_cast<size_t>(state)][static_cast<size_t>(event)];
  return number == kNone ? nullptr : &kNodeRules[number];
}

const HomeRule* find_rule(HomeState state, HomeEvent event) {
  const uint8_t number = kHomeTable.number[static_cast<size_t>(state)][static_cast<size_t>(event)];
  return number == kNone ? nullptr : &kHomeRules[number];
}

}  // namespace hecaton::coherence
