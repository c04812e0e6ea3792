#include "programs.h"

#include <cstddef>

#include "litmus.h"

extern "C" {
extern const std::byte micro_begin[], micro_end[];
uint64_t micro_increments(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_false_sharing(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_message_passing(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_store_buffering(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_iriw(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_ticket_lock(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_mcs_lock(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_random(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
uint64_t micro_producer_consumer(void*, uint64_t, uint64_t, uint64_t, uint64_t*);
}

namespace hecaton::microguest {
namespace {

constexpr uint64_t kWordsPerPage = 512;

Verdict fault_unless(bool good, const char* fault) {
  return {good ? nullptr : fault, {}};
}

Verdict check_increments(const Outcome& outcome) {
  return fault_unless(outcome.memory[0] == outcome.nodes * outcome.count, "an increment is lost");
}

Verdict check_false_sharing(const Outcome& outcome) {
  for (uint64_t node = 0; node < outcome.nodes; ++node) {
    if (outcome.memory[node] != outcome.count) return {"a node's word is not what it wrote", {}};
  }
  return {};
}

Verdict check_ticket_lock(const Outcome& outcome) {
  const uint64_t all = outcome.nodes * outcome.count;
  if (outcome.memory[0] != all || outcome.memory[kWordsPerPage] != all) return {"the lock lost count", {}};
  return fault_unless(outcome.memory[2 * kWordsPerPage] == all, "two were in the lock at once");
}

Verdict check_producer_consumer(const Outcome& outcome) {
  return fault_unless(outcome.memory[kWordsPerPage] == outcome.count, "not all items were taken");
}

Verdict check_mcs_lock(const Outcome& outcome) {
  if (outcome.memory[0] != 0) return {"somebody is still in the lock", {}};
  return fault_unless(outcome.memory[kWordsPerPage] == outcome.nodes * outcome.count, "two were in the lock at once");
}

constexpr uint64_t kWordsOfAll = kGuestPages * kWordsPerPage;

Verdict check_random(const Outcome& outcome) {
  for (uint64_t word = 0; word < kWordsOfAll; ++word) {
    const uint64_t owner = word % 4;
    const uint64_t wanted = owner < outcome.nodes ? outcome.seen[owner][word] : 0;
    if (outcome.memory[word] != wanted) return {"a word is not what its node wrote last", {}};
  }
  return {};
}

constexpr Program kPrograms[] = {
    {"increments", micro_increments, 0, 1, 0, 200'000, check_increments},
    {"false-sharing", micro_false_sharing, 0, 1, 0, 200'000, check_false_sharing},
    {"message-passing", micro_message_passing, 2, kRunsPerRound, 2, 32 * kRunsPerRound, check_message_passing},
    {"store-buffering", micro_store_buffering, 2, kRunsPerRound, 1, 32 * kRunsPerRound, check_store_buffering},
    {"iriw", micro_iriw, 4, kRunsPerRound, 2, 16 * kRunsPerRound, check_iriw},
    {"ticket-lock", micro_ticket_lock, 0, 1, 0, 30, check_ticket_lock},
    {"mcs-lock", micro_mcs_lock, 0, 1, 0, 30, check_mcs_lock},
    {"random", micro_random, 0, kWordsOfAll, 1, kWordsOfAll, check_random},
    {"producer-consumer", micro_producer_consumer, 2, 1, 0, 20'000, check_producer_consumer},
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
