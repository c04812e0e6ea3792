// Every state of small machines: docs/coherence.md.
#include <gtest/gtest.h>

#include <cstdlib>
#include <ostream>

#include "base/sanitized_for_tests.h"
#include "coherence/rules.h"
#include "explore.h"
#include "machines.h"
#include "mutable_rules.h"

namespace hecaton::coherence::check {

// For gtest, which would print its bytes.
static void PrintTo(const Machine& machine, std::ostream* out) {
  *out << machine.name;
}

namespace {

class Exhaustive : public testing::TestWithParam<Machine> {};

TEST_P(Exhaustive, HasOneWriterNoStaleReadNoLostWriteNoDeadlockAndNobodyStarves) {
  // A sanitizer makes it ten times slower: fewer states then.
  const uint64_t most_states = kSanitized ? 20'000 : UINT32_MAX;
  Report report = explore(GetParam(), most_states);
  EXPECT_EQ(report.breach, "") << report.trace;
  EXPECT_TRUE(report.complete || kSanitized);
  RecordProperty("states", std::to_string(report.states));
}

std::vector<Machine> chosen_machines() {
  std::vector<Machine> machines = small_machines();
  if (std::getenv("HECATON_COHERENCE_LARGE") != nullptr) {
    for (const Machine& machine : large_machines()) machines.push_back(machine);
  }
  return machines;
}

INSTANTIATE_TEST_SUITE_P(Machines, Exhaustive, testing::ValuesIn(chosen_machines()), [](const auto& tested) {
  std::string name = tested.param.name;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
});

TEST(ExhaustiveRules, EachRuleIsUsedBySomeMachine) {
  if (kSanitized) GTEST_SKIP() << "not all states are visited under a sanitizer";
  clear_uses();
  for (const Machine& machine : small_machines()) explore(machine);
  for (size_t i = 0; i < std::size(kNodeRules); ++i) {
    EXPECT_TRUE(used_node_rules()[i]) << name_of(kNodeRules[i].from) << " " << name_of(kNodeRules[i].on);
  }
  for (size_t i = 0; i < std::size(kHomeRules); ++i) {
    EXPECT_TRUE(used_home_rules()[i]) << name_of(kHomeRules[i].from) << " " << name_of(kHomeRules[i].on);
  }
}

}  // namespace
}  // namespace hecaton::coherence::check
