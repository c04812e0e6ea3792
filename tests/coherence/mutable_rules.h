// For the explorer only: the tables of the core, in which one rule can be changed, to see whether it notices; and how
// often each rule was applied.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "coherence/rules.h"

namespace hecaton::coherence::check {

// Until it is destroyed the core finds this rule in place of the one with the same `from` and `on`, or none.
class ChangedRule {
 public:
  explicit ChangedRule(const NodeRule& rule);
  explicit ChangedRule(const HomeRule& rule);
  static ChangedRule without(const NodeRule& rule);
  static ChangedRule without(const HomeRule& rule);
  ~ChangedRule();
  ChangedRule(const ChangedRule&) = delete;
  ChangedRule& operator=(const ChangedRule&) = delete;

 private:
  ChangedRule() = default;
};

// The rules that were asked for since the last clear_uses(), by their place in the tables.
const std::vector<bool>& used_node_rules();
const std::vector<bool>& used_home_rules();
void clear_uses();

}  // namespace hecaton::coherence::check
