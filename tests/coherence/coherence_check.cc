// coherence_check [--large] [--most-states N] [NAME…]: visits every state of small machines, see docs/coherence.md.
// Exit status 1 on a breach, whose shortest history is printed.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>

#include "explore.h"
#include "machines.h"

using namespace hecaton::coherence::check;

namespace {

bool run(const Machine& machine, uint64_t most_states) {
  const auto start = std::chrono::steady_clock::now();
  const Report report = explore(machine, most_states);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%-48s %10lu states %11lu moves %6.1f s%s\n", machine.name.c_str(), report.states, report.moves, seconds,
              report.complete ? "" : "  (not all)");
  std::fflush(stdout);
  if (report.breach.empty()) return true;
  std::printf("coherence_check: %s: %s\n%s", machine.name.c_str(), report.breach.c_str(), report.trace.c_str());
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Visits every state of small machines with the coherence core."};
  bool large = false;
  uint64_t most_states = 50'000'000;
  std::vector<std::string> names;
  app.add_flag("--large", large, "larger machines too: minutes");
  app.add_option("--most-states", most_states, "of each machine");
  app.add_option("NAME", names, "only these machines");
  CLI11_PARSE(app, argc, argv);
  std::vector<Machine> machines = small_machines();
  if (large || !names.empty()) {
    for (const Machine& machine : large_machines()) machines.push_back(machine);
  }
  bool good = true;
  for (const Machine& machine : machines) {
    if (!names.empty() && std::find(names.begin(), names.end(), machine.name) == names.end()) continue;
    good = run(machine, most_states) && good;
  }
  return good ? 0 : 1;
}
