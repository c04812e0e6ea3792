// Larger machines at random, from seeds. HECATON_COHERENCE_SEEDS: how many of each, for scripts/soak.
#include "simulation.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/sanitized_for_tests.h"

namespace hecaton::coherence::check {
namespace {

uint64_t seeds() {
  const char* chosen = std::getenv("HECATON_COHERENCE_SEEDS");
  return chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : kSanitized ? 2 : 20;
}

void expect_no_breach(SimulationOptions options, int64_t longest_wait_ns) {
  for (options.seed = 1; options.seed <= seeds(); ++options.seed) {
    SimulationReport report = simulate(options);
    ASSERT_EQ(report.breach, "") << "seed " << options.seed;
    ASSERT_LT(report.longest_wait_ns, longest_wait_ns) << "seed " << options.seed;
    if (options.node_dies) continue;
    ASSERT_EQ(report.executed, options.nodes * options.processors_of_a_node * options.instructions);
  }
}

// An instruction's turn, generously: each of its pages comes from the last of all who want it, several times over.
int64_t longest_wait(const SimulationOptions& options) {
  const auto others = static_cast<int64_t>(options.nodes * options.processors_of_a_node);
  const auto pages = static_cast<int64_t>(8 * options.most_needs);
  return pages * others * (options.hold_ns + 16 * options.message_ns);
}

TEST(CoherenceSimulation, FourNodesReadWhatWasWrittenLastAndNobodyWaitsLong) {
  SimulationOptions options;
  expect_no_breach(options, longest_wait(options));
}

TEST(CoherenceSimulation, EightNodesWithEightPagesAtOnceDoSo) {
  SimulationOptions options;
  options.nodes = 8;
  options.most_needs = 8;
  options.instructions = 200;
  expect_no_breach(options, longest_wait(options));
}

TEST(CoherenceSimulation, EightNodesThatAllWantTheSamePageDoSo) {
  SimulationOptions options;
  options.nodes = 8;
  options.pages = 8;
  options.hot_pages = 1;
  expect_no_breach(options, longest_wait(options));
}

TEST(CoherenceSimulation, TwoNodesThatNeedTheSameTwoPagesAtOnceTakeTurns) {
  SimulationOptions options;
  options.nodes = 2;
  options.processors_of_a_node = 1;
  options.pages = 2;
  options.most_needs = 2;
  options.instructions = 2000;
  options.opposite_ways = true;
  expect_no_breach(options, longest_wait(options));
}

TEST(CoherenceSimulation, WhenANodeDiesNobodyReadsStaleBytesAndWhoWaitsForWhatIsGoneIsTold) {
  SimulationOptions options;
  options.nodes = 5;
  options.node_dies = true;
  expect_no_breach(options, INT64_MAX);
}

}  // namespace
}  // namespace hecaton::coherence::check
