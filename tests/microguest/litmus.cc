#include "litmus.h"

#include <array>
#include <cstddef>
#include <string>

namespace hecaton::microguest {
namespace {

// Of each read of a run whether it saw what is new; first those of the first reader, in the order of its program.
using Reads = std::array<bool, 4>;

struct Litmus {
  uint64_t first_reader, readers;  // nodes
  uint64_t reads;                  // of each of them, in a run
  size_t (*outcome_of)(const Reads& reads);
  std::array<const char*, 4> names;  // of the outcomes
  size_t forbidden;
};

size_t new_at_first_and_second(const Reads& reads) {
  return (reads[0] ? 1 : 0) + (reads[1] ? 2 : 0);
}

// Who reads new, then old, knows that what it read first was written first.
size_t orders_seen(const Reads& reads) {
  return (reads[0] && !reads[1] ? 1 : 0) + (reads[2] && !reads[3] ? 2 : 0);
}

constexpr Litmus kMessagePassing = {
    1, 1, 2, new_at_first_and_second, {"neither seen", "flag without data", "data before flag", "both seen"}, 1};
constexpr Litmus kStoreBuffering = {
    0, 2, 1, new_at_first_and_second, {"neither saw the other", "only node 0 saw", "only node 1 saw", "both saw"}, 0};
constexpr Litmus kIriw = {
    2, 2, 2, orders_seen, {"no order seen", "node 0 wrote first", "node 1 wrote first", "different orders seen"}, 3};

struct Counts {
  std::array<uint64_t, 4> outcomes{};
  uint64_t impossible = 0;  // words that are neither this round's nor the last one's
};

void count_run(const Litmus& test, const Outcome& outcome, uint64_t run, Counts& counts) {
  const uint64_t round = run / kRunsPerRound;  // counted from 0, where the program counts from 1
  Reads reads{};
  for (uint64_t i = 0; i < test.readers * test.reads; ++i) {
    const uint64_t row = round * test.reads + i % test.reads;
    const uint64_t word = outcome.seen[test.first_reader + i / test.reads][row * kRunsPerRound + run % kRunsPerRound];
    if (word != round && word != round + 1) ++counts.impossible;
    reads[i] = word > round;
  }
  ++counts.outcomes[test.outcome_of(reads)];
}

Verdict check(const Litmus& test, const Outcome& outcome) {
  Counts counts;
  for (uint64_t run = 0; run < outcome.count; ++run) count_run(test, outcome, run, counts);
  Verdict verdict;
  for (size_t i = 0; i < counts.outcomes.size(); ++i) {
    if (i > 0) verdict.outcomes += ", ";
    verdict.outcomes += test.names[i];
    verdict.outcomes += " " + std::to_string(counts.outcomes[i]);
  }
  if (counts.impossible != 0) {
    verdict.fault = "words of another round";
    verdict.outcomes += ", words of another round " + std::to_string(counts.impossible);
  }
  if (counts.outcomes[test.forbidden] != 0) verdict.fault = "an outcome that x86 forbids";
  return verdict;
}

}  // namespace

Verdict check_message_passing(const Outcome& outcome) {
  return check(kMessagePassing, outcome);
}

Verdict check_store_buffering(const Outcome& outcome) {
  return check(kStoreBuffering, outcome);
}

Verdict check_iriw(const Outcome& outcome) {
  return check(kIriw, outcome);
}

}  // namespace hecaton::microguest
