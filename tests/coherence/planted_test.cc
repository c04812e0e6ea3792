// Bugs planted on purpose into the tables of the core: does the explorer notice? Those that are not in the tables are
// patches, for scripts/planted-bugs.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/sanitized_for_tests.h"
#include "explore.h"
#include "machines.h"
#include "mutable_rules.h"

namespace hecaton::coherence::check {
namespace {

// The first breach that some small machine shows; empty: none does. `deaths`: only of those in which a node may die.
std::string first_breach(bool deaths = false) {
  for (const Machine& machine : small_machines()) {
    if (deaths && !machine.may_die) continue;
    Report report = explore(machine);
    if (!report.breach.empty()) return report.breach;
  }
  return "";
}

NodeRule rule_of(NodeState from, NodeEvent on) {
  return *std::find_if(std::begin(kNodeRules), std::end(kNodeRules),
                       [&](const NodeRule& rule) { return rule.from == from && rule.on == on; });
}
HomeRule rule_of(HomeState from, HomeEvent on) {
  return *std::find_if(std::begin(kHomeRules), std::end(kHomeRules),
                       [&](const HomeRule& rule) { return rule.from == from && rule.on == on; });
}

TEST(Planted, APageThatIsSentBeforeItIsZappedIsNoticed) {
  NodeRule rule = rule_of(NodeState::kExclusive, NodeEvent::kFetchExclusive);
  std::swap(rule.steps[0], rule.steps[1]);
  ChangedRule changed(rule);
  EXPECT_EQ(first_breach(), "a page is sent away while the guest can reach it");
}

TEST(Planted, ACopyThatIsSentBeforeThePageIsProtectedIsNoticed) {
  NodeRule rule = rule_of(NodeState::kExclusive, NodeEvent::kFetchShared);
  std::swap(rule.steps[0], rule.steps[1]);
  ChangedRule changed(rule);
  EXPECT_EQ(first_breach(), "a copy is sent while the guest can write the page");
}

TEST(Planted, AWriteThatDoesNotAwaitThatOthersForgotIsNoticed) {
  NodeRule rule = rule_of(NodeState::kAsksUpgrade, NodeEvent::kUpgradeThenWait);
  const NodeRule at_once = rule_of(NodeState::kAsksUpgrade, NodeEvent::kUpgrade);
  rule.next = at_once.next;
  rule.steps = at_once.steps;
  ChangedRule changed(rule);
  EXPECT_EQ(first_breach(), "a page is mapped for writing while others read it");
}

TEST(Planted, AnUpgradeThatIsStillOneAfterItsCopyIsGoneIsNoticed) {
  NodeRule rule = rule_of(NodeState::kAsksUpgrade, NodeEvent::kInvalidate);
  rule.next = NodeState::kAsksUpgrade;
  ChangedRule changed(rule);
  EXPECT_NE(first_breach(), "");
}

TEST(Planted, ACopyThatIsNotZappedWhenItIsForgottenIsNoticed) {
  NodeRule rule = rule_of(NodeState::kShared, NodeEvent::kInvalidate);
  rule.steps = {NodeStep::kConfirm, NodeStep::kNone, NodeStep::kNone};
  ChangedRule changed(rule);
  EXPECT_EQ(first_breach(), "a page is mapped for writing while others read it");
}

TEST(Planted, AHomeThatTellsNoSharerToForgetIsNoticed) {
  HomeRule rule = rule_of(HomeState::kShared, HomeEvent::kUpgrade);
  rule.steps[1] = HomeStep::kNone;
  ChangedRule changed(rule);
  EXPECT_NE(first_breach(), "");
}

TEST(Planted, AHomeThatServesAWriterWhileReadersAreUnderWayIsNoticed) {
  HomeRule rule = rule_of(HomeState::kReading, HomeEvent::kWrite);
  const HomeRule at_once = rule_of(HomeState::kShared, HomeEvent::kWrite);
  rule.next = at_once.next;
  rule.steps = at_once.steps;
  ChangedRule changed(rule);
  EXPECT_NE(first_breach(), "");
}

TEST(Planted, WithoutAHoldNodesTakePagesFromEachOtherForEver) {
  std::vector<Machine> machines = small_machines();
  auto found = std::find_if(machines.begin(), machines.end(),
                            [](const Machine& s) { return s.name == "both pages at once, opposite ways"; });
  ASSERT_NE(found, machines.end());
  found->hold_ns = 0;
  EXPECT_NE(explore(*found).breach.find("never gets on"), std::string::npos);
}

// A step that could be left out, and nothing would break, has no business in a table. Some have it all the same: they
// save time, or tell who does not wait.
bool may_be_left_out(const NodeRule& rule, NodeStep step) {
  const bool late_fault =
      rule.on == NodeEvent::kReadFault && (rule.from == NodeState::kAsksUpgrade || rule.from == NodeState::kGathers);
  const bool nobody_waits = rule.on == NodeEvent::kLost && step == NodeStep::kFail &&
                            (rule.from == NodeState::kClean || rule.from == NodeState::kExclusive);
  return late_fault || nobody_waits;
}

TEST(Planted, EachStepOfEachRuleIsMissedWhenItIsLeftOut) {
  if (kSanitized) GTEST_SKIP() << "too slow under a sanitizer";
  for (NodeRule rule : kNodeRules) {
    for (NodeStep step : rule.steps) {
      if (step == NodeStep::kNone || may_be_left_out(rule, step)) continue;
      NodeRule without = rule;
      std::replace(without.steps.begin(), without.steps.end(), step, NodeStep::kNone);
      ChangedRule changed(without);
      const bool deaths = rule.on == NodeEvent::kLost || rule.from == NodeState::kLost;
      EXPECT_NE(first_breach(deaths), "") << name_of(rule.from) << " " << name_of(rule.on);
    }
  }
  for (HomeRule rule : kHomeRules) {
    for (HomeStep step : rule.steps) {
      if (step == HomeStep::kNone) continue;
      HomeRule without = rule;
      std::replace(without.steps.begin(), without.steps.end(), step, HomeStep::kNone);
      ChangedRule changed(without);
      EXPECT_NE(first_breach(rule.from == HomeState::kLost), "") << name_of(rule.from) << " " << name_of(rule.on);
    }
  }
}

}  // namespace
}  // namespace hecaton::coherence::check
