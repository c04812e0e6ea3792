// coherence_check [--large] [--most-states N] [NAME…]: visits every state of small machines, see docs/coherence.md.
// Exit status 1 on a breach, whose shortest history is printed; if not all states were visited, but for --most-states,
// which asks for that; or if the findings could not be written. 2: the command line is wrong.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "command_line.h"
#include "explore.h"
#include "machines.h"

using namespace hecaton;
using namespace hecaton::coherence::check;

namespace {

constexpr uint64_t kMostStates = 50'000'000;

struct Options {
  bool large = false;
  uint64_t most_states = 0;  // 0: kMostStates, and all must be visited
  std::vector<std::string> names;
};

// False: there is a breach, or it was not looked for everywhere.
bool run(const Machine& machine, const Options& options) {
  const uint64_t most_states = options.most_states != 0 ? options.most_states : kMostStates;
  const auto start = std::chrono::steady_clock::now();
  const Report report = explore(machine, most_states);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%-48s %10lu states %11lu moves %6.1f s%s\n", machine.name.c_str(), report.states, report.moves, seconds,
              report.complete ? "" : "  (not all)");
  std::fflush(stdout);
  if (report.breach.empty()) {
    if (report.complete || options.most_states != 0) return true;
    std::printf("coherence_check: %s: it has more states than were visited\n", machine.name.c_str());
    return false;
  }
  std::printf("coherence_check: %s: %s\n%s", machine.name.c_str(), report.breach.c_str(), report.trace.c_str());
  return false;
}

// Those that were asked for. Empty: one of them does not exist, and it is said.
std::vector<Machine> machines_of(const Options& options) {
  std::vector<Machine> machines = small_machines();
  if (options.large || !options.names.empty()) {
    for (Machine& machine : large_machines()) machines.push_back(std::move(machine));
  }
  if (options.names.empty()) return machines;
  std::vector<Machine> wanted;
  for (const std::string& name : options.names) {
    const auto is_it = [&](const Machine& machine) { return machine.name == name; };
    if (const auto it = std::find_if(machines.begin(), machines.end(), is_it); it != machines.end()) {
      wanted.push_back(*it);
      continue;
    }
    std::string all;
    for (const Machine& machine : machines) all += "\n  " + machine.name;
    std::fprintf(stderr, "coherence_check: there is no machine '%s'; there are:%s\n", name.c_str(), all.c_str());
    return {};
  }
  return wanted;
}

int check(int argc, char** argv) {
  CLI::App app{"Visits every state of small machines with the coherence core.", "coherence_check"};
  Options options;
  app.add_flag("--large", options.large, "larger machines too: minutes");
  app.add_option("--most-states", options.most_states,
                 "stop at so many of each machine, and be content (default: 50000000, and fail there)")
      ->check(CLI::Range(uint64_t{1}, UINT64_MAX));
  app.add_option("NAME", options.names, "only these machines");
  if (const std::optional<int> told = tests::parse(app, argc, argv)) return *told;
  const std::vector<Machine> machines = machines_of(options);
  if (machines.empty()) return tests::kExitUsage;
  bool good = true;
  for (const Machine& machine : machines) good = run(machine, options) && good;
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  return tests::when_written("coherence_check", check(argc, argv));
}
