#include "machines.h"

namespace hecaton::coherence::check {
namespace {

constexpr Access kRead = Access::kRead;
constexpr Access kWrite = Access::kWrite;

const Instruction kReads0 = reads(0), kWrites0 = writes(0), kReads1 = reads(1), kWrites1 = writes(1);
const Instruction kBoth{{0, kWrite}, {1, kWrite}};           // one instruction that writes page 0, then page 1
const Instruction kBothBackwards{{1, kWrite}, {0, kWrite}};  // the other way round
const Instruction kAll{{0, kWrite}, {1, kWrite}, {2, kWrite}, {3, kWrite}};
const Instruction kAllBackwards{{3, kWrite}, {2, kWrite}, {1, kWrite}, {0, kWrite}};
const Instruction kCopies{{0, kRead}, {1, kWrite}};
const Instruction kCopiesBack{{1, kRead}, {0, kWrite}};
const Instruction kUpdates{{0, kRead}, {0, kWrite}};

}  // namespace

std::vector<Machine> small_machines() {
  return {
      {.name = "two nodes read and write",
       .pages = {1, 0},
       .programs = {{0, {kReads0, kWrites0}, true}, {1, {kReads0, kWrites0}, true}},
       .version_mask = 3},
      {.name = "two nodes, away from the home",
       .pages = {1, 0, 0},
       .programs = {{1, {kReads0, kWrites0}, true}, {2, {kReads0, kWrites0}, true}}},
      {.name = "three nodes read and write",
       .pages = {1, 0, 0},
       .programs = {{0, {kReads0, kWrites0}, true}, {1, {kReads0, kWrites0}, true}, {2, {kReads0, kWrites0}, true}}},
      {.name = "two readers and a writer away from the home",
       .pages = {1, 0, 0, 0},
       .programs = {{1, {kReads0}, true}, {2, {kReads0}, true}, {3, {kWrites0}, true}}},
      {.name = "a page that wanders",
       .pages = {1, 0, 0},
       .programs = {{0, {kUpdates}, true}, {1, {kUpdates}, true}, {2, {kReads0}, true}}},
      {.name = "two processors of a node",
       .pages = {1, 0},
       .programs = {{0, {kReads0, kWrites0}, true}, {0, {kWrites0}, true}, {1, {kUpdates}, true}}},
      {.name = "two processors of a node, once",
       .pages = {1, 0},
       .programs = {{0, {kReads0, kWrites0}}, {0, {kReads0}}, {1, {kReads0, kWrites0}}, {1, {kWrites0}}}},
      {.name = "a page that wanders, once",
       .pages = {1, 0, 0},
       .programs = {{1, {kUpdates}}, {2, {kUpdates}}, {1, {kReads0, kReads0}}, {2, {kReads0}}}},
      {.name = "both pages at once, opposite ways",
       .pages = {1, 1},
       .programs = {{0, {kBoth}, true}, {1, {kBothBackwards}, true}},
       .version_mask = 0},
      {.name = "both pages at once, the same way",
       .pages = {2, 0},
       .programs = {{0, {kBoth}, true}, {1, {kBoth}, true}},
       .version_mask = 0},
      {.name = "copying back and forth",
       .pages = {1, 1},
       .programs = {{0, {kCopies}, true}, {1, {kCopiesBack}, true}},
       .version_mask = 0},
      {.name = "four pages at once, opposite ways",
       .pages = {2, 2},
       .programs = {{0, {kAll}, true}, {1, {kAllBackwards}, true}},
       .version_mask = 0},
      {.name = "three nodes in a ring, each with the next one's page",
       .pages = {1, 1, 1},
       .programs = {{0, {kBoth}, true},
                    {1, {{{1, kWrite}, {2, kWrite}}}, true},
                    {2, {{{2, kWrite}, {0, kWrite}}}, true}},
       .version_mask = 0},
      {.name = "time flies",
       .pages = {1, 0, 0},
       .programs = {{0, {kReads0, kWrites0}, false}, {1, {kUpdates, kWrites0}, false}, {2, {kReads0, kUpdates}, false}},
       .time_flies = true},
      {.name = "a node dies",
       .pages = {1, 0, 0},
       .programs = {{0, {kReads0, kWrites0}, false}, {1, {kUpdates}, true}, {2, {kReads0, kWrites0}, false}},
       .version_mask = 0,
       .may_die = 2},
      {.name = "a node dies that has the page",
       .pages = {1, 0, 0},
       .programs = {{0, {kReads0}}, {1, {kReads0, kReads0}}, {2, {kWrites0, kWrites0}}},
       .version_mask = 0,
       .may_die = 2},
      {.name = "the home dies under many",
       .pages = {1, 0, 0, 0},
       .programs = {{1, {kReads0, kWrites0}}, {2, {kReads0, kWrites0}}, {3, {kWrites0}}},
       .version_mask = 0,
       .may_die = 0},
      {.name = "a home dies under both pages at once",
       .pages = {1, 0, 1},
       .programs = {{0, {kBoth}}, {1, {kBothBackwards}, true}, {2, {kWrites1}}},
       .version_mask = 0,
       .may_die = 2},
      {.name = "the home dies",
       .pages = {1, 0, 0},
       .programs = {{0, {kWrites0}, false}, {1, {kReads0, kWrites0}, false}, {2, {kReads0, kWrites0}, false}},
       .version_mask = 0,
       .may_die = 0},
  };
}

std::vector<Machine> large_machines() {
  return {
      {.name = "four nodes read and write",
       .pages = {1, 0, 0, 0},
       .programs = {{0, {kReads0, kWrites0}, true},
                    {1, {kReads0, kWrites0}, true},
                    {2, {kReads0, kWrites0}, true},
                    {3, {kReads0, kWrites0}, true}},
       .version_mask = 0},
      {.name = "three nodes, both pages at once",
       .pages = {1, 1, 0},
       .programs = {{0, {kBoth}, true}, {1, {kBothBackwards}, true}, {2, {kBoth}, true}},
       .version_mask = 0},
      {.name = "five nodes, three of them read",
       .pages = {1, 0, 0, 0, 0},
       .programs = {{0, {kWrites0}, true},
                    {1, {kReads0}, true},
                    {2, {kReads0}, true},
                    {3, {kReads0}, true},
                    {4, {kUpdates}, true}},
       .version_mask = 0},
      {.name = "two processors of each node, both pages",
       .pages = {1, 1},
       .programs = {{0, {kBoth}, true}, {0, {kReads1}, true}, {1, {kBothBackwards}, true}, {1, {kReads0}, true}},
       .version_mask = 0},
      {.name = "one of four nodes dies",
       .pages = {1, 0, 0, 0},
       .programs =
           {{0, {kReads0, kWrites0}}, {1, {kUpdates, kReads0}}, {2, {kReads0, kWrites0}}, {3, {kUpdates}, true}},
       .version_mask = 0,
       .may_die = 3},
      {.name = "two pages, each read and written",
       .pages = {1, 1},
       .programs = {{0, {kReads0, kWrites1, kReads1, kWrites0}, true}, {1, {kReads1, kWrites0, kBothBackwards}, true}}},
  };
}

}  // namespace hecaton::coherence::check
