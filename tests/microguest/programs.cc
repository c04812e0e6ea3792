#include "programs.h"

#include <algorithm>
#include <cstddef>

extern "C" {
extern const std::byte micro_begin[], micro_end[];
uint64_t micro_increments(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_false_sharing(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_message_passing(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_store_buffering(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_iriw(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_ticket_lock(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_producer_consumer(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
}

namespace hecaton::microguest {
namespace {

constexpr uint64_t kWordsPerPage = 512;

const char* check_increments(const Outcome& outcome) {
  return outcome.memory[0] == outcome.nodes * outcome.count ? nullptr : "an increment is lost";
}

const char* check_false_sharing(const Outcome& outcome) {
  for (uint64_t node = 0; node < outcome.nodes; ++node) {
    if (outcome.memory[node] != outcome.count) return "a node's word is not what it wrote";
  }
  return nullptr;
}

const char* check_message_passing(const Outcome& outcome) {
  return outcome.memory[2 * kWordsPerPage] == outcome.count ? nullptr : "the reader did not get to its end";
}

const char* check_store_buffering(const Outcome& outcome) {
  for (uint64_t run = 0; run < outcome.count; ++run) {
    const uint64_t stamp = run + 1;
    if (outcome.seen[0][run] < stamp && outcome.seen[1][run] < stamp) return "neither saw the other's store";
  }
  return nullptr;
}

// The readers disagree if one saw write x before y, and the other y before x: the first of each pair of words is what
// was read first. Both only grow, so of the other reader's pairs that lack this x the last has the largest y.
const char* check_iriw(const Outcome& outcome) {
  auto first = [&](uint64_t reader, uint64_t run) { return outcome.seen[reader][2 * run]; };
  auto second = [&](uint64_t reader, uint64_t run) { return outcome.seen[reader][2 * run + 1]; };
  uint64_t without = 0;  // pairs of node 3 that lack what node 2 saw
  for (uint64_t run = 0; run < outcome.count; ++run) {
    while (without < outcome.count && second(3, without) < first(2, run)) ++without;
    if (without > 0 && first(3, without - 1) > second(2, run)) return "the readers saw two writes in different orders";
  }
  return nullptr;
}

const char* check_ticket_lock(const Outcome& outcome) {
  const uint64_t all = outcome.nodes * outcome.count;
  if (outcome.memory[0] != all || outcome.memory[kWordsPerPage] != all) return "the lock lost count";
  return outcome.memory[2 * kWordsPerPage] == all ? nullptr : "two were in the lock at once";
}

const char* check_producer_consumer(const Outcome& outcome) {
  return outcome.memory[kWordsPerPage] == outcome.count ? nullptr : "not all items were taken";
}

constexpr Program kPrograms[] = {
    {"increments", micro_increments, 0, 0, 200'000, check_increments},
    {"false-sharing", micro_false_sharing, 0, 0, 200'000, check_false_sharing},
    {"message-passing", micro_message_passing, 2, 0, 50, check_message_passing},
    {"store-buffering", micro_store_buffering, 2, 1, 50, check_store_buffering},
    {"iriw", micro_iriw, 4, 2, 30, check_iriw},
    {"ticket-lock", micro_ticket_lock, 0, 0, 30, check_ticket_lock},
    {"producer-consumer", micro_producer_consumer, 2, 0, 20'000, check_producer_consumer},
};

}  // namespace

std::span<const Program> programs() {
  return kPrograms;
}

std::span<const std::byte> all_code() {
  return {micro_begin, static_cast<size_t>(micro_end - micro_begin)};
}

uint64_t offset_of(Code code) {
  return static_cast<uint64_t>(reinterpret_cast<const std::byte*>(code) - micro_begin);
}

}  // namespace hecaton::microguest
