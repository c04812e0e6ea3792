// Small programs on one memory over several nodes, each a process, and a check of what they saw.
//
//   microguest PROGRAM [--nodes N] [--count N] [--runs N] [--threads] [--copy] [--hold-us N] [--silence-ms N]
//   microguest kill [--nodes N] [--threads] [--copy]
//   microguest list
//
// The programs run in guests on KVM, or with --threads as plain threads. --copy: map protected pages in the way of
// kernels before 6.4. HECATON_MICROGUEST_COUNT replaces the count of each run (the counts of docs/coherence.md take
// minutes). `kill`: one node is killed while all run; the others must stop within a second, and say why.
//
// Exit status 0: all was as it must be. 1: something was not, or could not be written. 2: the command line is wrong.
// 77: this machine cannot run it.
#include <sys/mman.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "base/clock.h"
#include "command_line.h"
#include "guest_machine.h"
#include "node/processes.h"
#include "os/memory.h"

namespace {

using namespace hecaton;
using namespace hecaton::microguest;
using node::kExitSkipped;
using node::kExitStopped;
using node::Shared;

// What the nodes see of so many, in bytes, is far from the end of 64 bits.
constexpr uint64_t kMostCount = 1'000'000'000'000;
constexpr uint64_t kMostRuns = 1'000'000'000, kMostHoldUs = 1'000'000, kMostSilenceMs = 600'000;

struct Options {
  std::string program;
  uint64_t nodes = 0, count = 0, runs = 1, hold_us = 100, silence_ms = 800;
  bool threads = false, copy = false;
};

std::vector<std::string> names() {
  std::vector<std::string> all{"kill", "list"};
  for (const Program& program : programs()) all.emplace_back(program.name);
  return all;
}

void add_options(CLI::App& app, Options& options, const CLI::Validator& counts) {
  app.add_option("PROGRAM", options.program)->required()->check(CLI::IsMember(names()));
  app.add_option("--nodes", options.nodes, "processes; default: what the program needs, or 2")
      ->check(CLI::Range(uint64_t{1}, uint64_t{node::kMostProcesses}));
  app.add_option("--count", options.count, "runs of the program's loop at each node")->check(counts);
  app.add_option("--runs", options.runs, "of the whole program")->check(CLI::Range(uint64_t{1}, kMostRuns));
  app.add_flag("--threads", options.threads, "plain threads instead of guests");
  app.add_flag("--copy", options.copy, "map protected pages in the way of kernels before 6.4");
  app.add_option("--hold-us", options.hold_us, "how long a node keeps a page")
      ->check(CLI::Range(uint64_t{0}, kMostHoldUs));
  app.add_option("--silence-ms", options.silence_ms, "how long until a silent node is lost")
      ->check(CLI::Range(uint64_t{1}, kMostSilenceMs));
}

// None: `options` has it all. Else the exit status, and all is said.
std::optional<int> parse(int argc, char** argv, Options& options) {
  CLI::App app{"Small programs on one memory over several nodes, each a process, and a check of what they saw.",
               "microguest"};
  const CLI::Range counts(uint64_t{1}, kMostCount);
  add_options(app, options, counts);
  if (const std::optional<int> told = tests::parse(app, argc, argv)) return told;
  if (options.program == "list" && argc > 2) {
    return tests::refuse(app, std::string("list takes nothing more: ") + argv[2]);
  }
  if (options.program == "kill" && options.nodes == 1) {
    return tests::refuse(app, "--nodes 1: kill wants one that survives");
  }
  if (const char* variable = std::getenv("HECATON_MICROGUEST_COUNT")) {
    const std::string wrong = counts(std::string(variable));
    if (!wrong.empty()) return tests::refuse(app, "HECATON_MICROGUEST_COUNT: " + wrong);
    options.count = std::strtoull(variable, nullptr, 0);
  }
  return std::nullopt;
}

node::NodeConfig config_of(const Options& options, uint64_t nodes) {
  node::NodeConfig config;
  for (uint64_t i = 0; i < nodes; ++i) config.pages.push_back(kGuestPages / nodes + (i < kGuestPages % nodes ? 1 : 0));
  config.hold_ns = static_cast<int64_t>(options.hold_us) * 1000;
  config.silence_ms = static_cast<int64_t>(options.silence_ms);
  if (options.copy) config.protected_map = false;
  return config;
}

// Words that a node's program puts down, in memory that the parent sees.
class Seen {
 public:
  Seen(size_t nodes, uint64_t words) : nodes_(nodes) {
    const uint64_t page_words = kPageBytes / 8;
    stride_ = (words + page_words - 1) / page_words * page_words;
    if (stride_ == 0) return;
    // It is filled at once: the kernel would end some program.
    if (const uint64_t available = available_memory(); available != 0 && bytes() > available) return;
    void* at = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at != MAP_FAILED) words_at_ = static_cast<uint64_t*>(at);
  }
  ~Seen() {
    if (words_at_ != nullptr) munmap(words_at_, bytes());
  }
  Seen(const Seen&) = delete;
  Seen& operator=(const Seen&) = delete;
  bool ok() const { return stride_ == 0 || words_at_ != nullptr; }
  std::span<uint64_t> of(size_t node) { return {words_at_ + node * stride_, stride_}; }

 private:
  size_t bytes() const { return nodes_ * stride_ * 8; }
  size_t nodes_;
  uint64_t stride_ = 0;
  uint64_t* words_at_ = nullptr;
};

Result<uint64_t> run_program(const Options& options, const Program& program, node::Node& node, size_t number,
                             uint64_t nodes, uint64_t count, std::span<uint64_t> seen) {
  if (options.threads) return program.code(node.memory(), number, nodes, count, seen.data());
  GuestMachine machine = HEC_TRY(GuestMachine::create(node.memory(), seen));
  return machine.run(program.code, number, nodes, count);
}

Verdict verdict_on(const Program& program, Outcome& outcome, Shared& shared, Seen& seen) {
  for (uint64_t node = 0; node < outcome.nodes; ++node) {
    if (const uint64_t times = shared.nodes[node].result.load(); times != 0) {
      return {"a node saw what cannot be", std::to_string(times) + " times"};
    }
    outcome.seen.push_back(seen.of(node));
  }
  outcome.memory = shared.memory;
  return program.check(outcome);
}

// Why the nodes do not run as they should: they could not start, or some have ended.
int tell_failure(const Error& error, const std::string& problem) {
  std::fprintf(stderr, "%s\n", problem.c_str());
  return error.code == ErrorCode::kUnsupported ? kExitSkipped : 1;
}
int tell_ends(node::Processes& all) {
  if (all.skipped(Deadline::after_ms(2000))) return kExitSkipped;
  std::fprintf(stderr, "%s\n", all.ends().c_str());
  return 1;
}

int run_once(const Options& options, const Program& program, uint64_t run) {
  const uint64_t nodes = program.nodes != 0 ? program.nodes : options.nodes != 0 ? options.nodes : 2;
  const uint64_t asked = options.count != 0 ? options.count : program.ci_count;
  const uint64_t count = (asked + program.round - 1) / program.round * program.round;
  Seen seen(nodes, program.words_seen * count);
  if (!seen.ok()) return std::fprintf(stderr, "no memory for what the nodes see\n"), 1;
  std::string problem;
  auto processes = node::Processes::start(
      config_of(options, nodes),
      [&](node::Node& node, size_t number) -> Result<uint64_t> {
        return run_program(options, program, node, number, nodes, count, seen.of(number));
      },
      &problem);
  if (!processes.ok()) return tell_failure(processes.error(), problem);
  node::Processes& all = **processes;
  const int64_t start_ns = monotonic_ns();
  all.go();
  if (!all.all_done(Deadline::never()) || !all.look_and_end(Deadline::after_ms(60'000))) return tell_ends(all);
  const double seconds = static_cast<double>(monotonic_ns() - start_ns) / 1e9;
  Outcome outcome{nodes, count, {}, {}};
  const Verdict verdict = verdict_on(program, outcome, all.shared(), seen);
  std::printf("%s: run %lu, %lu nodes, %lu each, %s: %s", program.name.data(), run, nodes, count,
              options.threads ? "threads" : "guests", verdict.fault != nullptr ? verdict.fault : "as it must be");
  if (!verdict.outcomes.empty()) std::printf(" (%s)", verdict.outcomes.c_str());
  uint64_t pages = 0, messages = 0;
  for (uint64_t i = 0; i < nodes; ++i) {
    pages += all.shared().nodes[i].stats.pages_sent;
    messages += all.shared().nodes[i].stats.messages_sent;
  }
  std::printf("; %.2f s, %lu pages moved, %lu messages\n", seconds, pages, messages);
  std::fflush(stdout);
  return verdict.fault == nullptr ? 0 : 1;
}

// All nodes add to one word, without end as far as this test goes; the last is killed.
int run_kill(const Options& options) {
  const uint64_t nodes = options.nodes != 0 ? options.nodes : 3;
  const Program& program = programs().front();
  std::string problem;
  auto processes = node::Processes::start(
      config_of(options, nodes),
      [&](node::Node& node, size_t number) -> Result<uint64_t> {
        return run_program(options, program, node, number, nodes, UINT64_MAX, {});
      },
      &problem);
  if (!processes.ok()) return tell_failure(processes.error(), problem);
  node::Processes& all = **processes;
  all.go();
  (void)all.all_done(Deadline::after_ms(300));  // they never are: time for them to be in the middle of it
  if (!all.ends().empty()) return tell_ends(all);
  const int64_t killed_ns = monotonic_ns();
  all.kill(nodes - 1);
  const std::string named = "node " + std::to_string(nodes - 1) + " is lost";
  bool good = true;
  for (uint64_t i = 0; i + 1 < nodes; ++i) {
    const int status = all.status_of(i, Deadline::after_ms(10'000));
    const Shared::OfNode& node = all.shared().nodes[i];
    const double ms = static_cast<double>(node.stopped_ns.load() - killed_ns) / 1e6;
    std::printf("node %lu: stopped after %.1f ms: %s\n", i, ms, node.why.data());
    // Its connection tells them, long before its silence would.
    good = good && WIFEXITED(status) && WEXITSTATUS(status) == kExitStopped && ms >= 0 &&
           std::strstr(node.why.data(), named.c_str()) && !std::strstr(node.why.data(), "silent");
  }
  return good ? 0 : 1;
}

int run(const Options& options) {
  if (options.program == "kill") return run_kill(options);
  for (const Program& program : programs()) {
    if (options.program == "list") std::printf("%s\n", program.name.data());
    if (options.program != program.name) continue;
    for (uint64_t run = 1; run <= options.runs; ++run) {
      if (const int status = run_once(options, program, run); status != 0) return status;
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  const std::optional<int> told = parse(argc, argv, options);
  return tests::when_written("microguest", told ? *told : run(options));
}
