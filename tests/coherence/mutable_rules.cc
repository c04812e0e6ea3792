#include "mutable_rules.h"

#include <iterator>

namespace hecaton::coherence {
namespace check {
namespace {

// One thread; tests only.
std::optional<NodeRule> changed_node;
std::optional<HomeRule> changed_home;
bool removed = false;
std::vector<bool> used_node(std::size(kNodeRules)), used_home(std::size(kHomeRules));

}  // namespace

ChangedRule::ChangedRule(const NodeRule& rule) {
  changed_node = rule;
}
ChangedRule::ChangedRule(const HomeRule& rule) {
  changed_home = rule;
}
ChangedRule ChangedRule::without(const NodeRule& rule) {
  removed = true;
  return ChangedRule(rule);
}
ChangedRule ChangedRule::without(const HomeRule& rule) {
  removed = true;
  return ChangedRule(rule);
}
ChangedRule::~ChangedRule() {
  changed_node.reset();
  changed_home.reset();
  removed = false;
}

const std::vector<bool>& used_node_rules() {
  return used_node;
}
const std::vector<bool>& used_home_rules() {
  return used_home;
}
void clear_uses() {
  used_node.assign(used_node.size(), false);
  used_home.assign(used_home.size(), false);
}

namespace {

template <typename Rule, typename State, typename Event, size_t n>
const Rule* find(const Rule (&rules)[n], const std::optional<Rule>& changed, std::vector<bool>& used, State state,
                 Event event) {
  for (size_t i = 0; i < n; ++i) {
    if (rules[i].from != state || rules[i].on != event) continue;
    used[i] = true;
    if (!changed || changed->from != state || changed->on != event) return &rules[i];
    return removed ? nullptr : &*changed;
  }
  return nullptr;
}

}  // namespace
}  // namespace check

const NodeRule* find_rule(NodeState state, NodeEvent event) {
  return check::find(kNodeRules, check::changed_node, check::used_node, state, event);
}
const HomeRule* find_rule(HomeState state, HomeEvent event) {
  return check::find(kHomeRules, check::changed_home, check::used_home, state, event);
}

}  // namespace hecaton::coherence
