// hecaton bench: what paging costs on this machine, beside what the machine itself costs. Arguments in, reports out.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/units.h"
#include "base/version.h"
#include "bench/benchmarks.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "wire/token.h"

namespace hecaton::cli {
namespace {

struct Arguments {
  bench::Options options;
  std::vector<std::string> nodes;
  std::string region, local, token_file;
  size_t repeats = 0;  // 0: not said
  std::string html;
  bool json = false;
};

std::string check_size(const std::string& text) {
  Result<uint64_t> size = parse_size(text);
  if (!size.ok()) return fmt::format("'{}': {}", text, size.error().context);
  if (*size < 8_MiB) return fmt::format("'{}' is less than 8M", text);
  return *size > wire::kMaxRegionBytes ? fmt::format("'{}' is more than 16T", text) : "";
}

std::string check_named(const std::string& text) {
  return text.empty() ? "a file's name is missing" : "";
}

void add_common_options(CLI::App& verb, Arguments& arguments, bool has_nodes, bool has_seal) {
  verb.add_option("--repeats", arguments.repeats,
                  "how often to measure; medians are shown (default: 5; with --quick 1)")
      ->check(CLI::Range(1, 1000));
  if (has_nodes) {
    verb.add_option("--node", arguments.nodes, "a donor to use; default: an embedded one over loopback TCP")
        ->type_name("URL");
    verb.add_flag("--insecure", arguments.options.insecure,
                  "use donors on other machines without a token, unencrypted");
    verb.add_option("--token-file", arguments.token_file, "file with the token of donors whose URL has none")
        ->type_name("FILE");
  }
  if (has_seal) {
    verb.add_flag("--seal", arguments.options.seal,
                  "encrypt and authenticate every page before it leaves, as run --seal");
  }
  verb.add_flag("--quick", arguments.options.quick, "a few seconds: shows that it works, measures nothing well");
  verb.add_flag("--json", arguments.json,
                "figures as JSON; how tells how they were taken, wrong counts wrong results (0)");
  verb.add_option("--html", arguments.html, "write a page with the plots")->type_name("FILE")->check(check_named);
}

void add_options(CLI::App& verb, Arguments& arguments, const bench::Benchmark& benchmark) {
  const CLI::Validator size(check_size, "SIZE");
  if (benchmark.most_rounds != 0) {
    verb.add_option("--rounds", arguments.options.rounds, "operations to measure in each repeat")
        ->check(CLI::Range(size_t{100}, benchmark.most_rounds));
  }
  if (benchmark.has_size) verb.add_option("--size", arguments.region, "the memory to page")->check(size);
  if (benchmark.has_tls) {
    verb.add_flag("--tls", arguments.options.tls, "also over TLS, to an embedded donor that wants a token");
  }
  if (benchmark.has_local) {
    verb.add_option("--local", arguments.local, "how much of it may be in this machine's RAM")->check(size);
  }
  add_common_options(verb, arguments, benchmark.has_nodes, benchmark.has_seal);
}

// Empty, or what is wrong with the arguments.
std::string complete(Arguments& arguments) {
  bench::Options& options = arguments.options;
  for (const std::string& text : arguments.nodes) {
    Result<NodeUrl> url = parse_node_url(text);
    if (!url.ok()) return fmt::format("--node '{}': {}", without_tokens(text), url.error().context);
    options.nodes.push_back(std::move(url).value());
  }
  if (options.tls && !options.nodes.empty()) {
    return "--tls is for the embedded donor; a --node with a token is reached over TLS anyway";
  }
  if (!arguments.token_file.empty()) {
    std::string problem;
    Result<std::string> token = read_token_file(arguments.token_file, &problem);
    if (!token.ok()) return fmt::format("--token-file: {}", problem);
    Result<Credentials> credentials = Credentials::make(*token, {}, &problem);
    if (!credentials.ok()) return problem;
    options.credentials = std::move(credentials).value();
  }
  if (!arguments.region.empty()) {
    options.region_bytes = parse_size(arguments.region).value() / kExtentBytes * kExtentBytes;
  }
  if (!arguments.local.empty()) options.local_bytes = parse_size(arguments.local).value();
  options.repeats = arguments.repeats != 0 ? arguments.repeats : options.quick ? 1 : 5;
  if (isatty(STDERR_FILENO)) {
    options.progress = [](const std::string& doing) { print_error("\r\033[K{}", doing); };
  }
  return "";
}

std::string write_page(const std::string& path, const std::vector<bench::Report>& reports) {
  FILE* file = fopen(path.c_str(), "w");
  if (!file) return strerror(errno);
  const std::string page = bench::html_of(reports);
  const bool written = fwrite(page.data(), 1, page.size(), file) == page.size();
  return fclose(file) == 0 && written ? "" : strerror(errno);
}

struct Failure {
  std::string name, problem;
  int status;
};

void print_reports(const std::vector<bench::Report>& reports, const std::vector<Failure>& failures, bool json,
                   bool all) {
  if (!json) {
    for (const bench::Report& report : reports) {
      print_output("{}{}", &report == &reports[0] ? "" : "\n", text_of(report));
    }
  } else if (all) {
    nlohmann::ordered_json whole = {{"version", kVersion}, {"failed", nlohmann::ordered_json::object()}};
    for (const bench::Report& report : reports) whole[report.name] = json_of(report);
    for (const Failure& failure : failures) whole["failed"][failure.name] = failure.problem;
    print_output("{}\n", whole.dump(2));
  } else if (!reports.empty()) {
    print_output("{}\n", json_of(reports[0]).dump(2));
  }
}

// Nothing is more annoying than to learn after minutes of measuring that the result has no place to go.
std::string check_writable(const std::string& path) {
  struct stat before;
  const bool is_new = lstat(path.c_str(), &before) != 0;
  FILE* file = fopen(path.c_str(), "a");
  if (!file) return strerror(errno);
  fclose(file);
  if (is_new) unlink(path.c_str());  // a bench that is interrupted leaves no empty page
  return "";
}

std::string check_arguments(Arguments& arguments) {
  std::string problem = complete(arguments);
  if (!problem.empty() || arguments.html.empty()) return problem;
  problem = check_writable(arguments.html);
  return problem.empty() ? "" : fmt::format("--html '{}': {}", arguments.html, problem);
}

void note_seal(bool sealed, bench::Report& report) {
  report.figures["sealed"] = sealed;
  if (sealed) report.notes.push_back("pages are sealed: AES-256-GCM, on the host");
}

// Progress on a terminal is one line, which names the benchmark and is gone at the end.
Result<bench::Report> measure(const bench::Benchmark& benchmark, bench::Options options, std::string* problem) {
  options.seal = options.seal && benchmark.has_seal;
  const auto show = options.progress;
  if (show) {
    options.progress = [&](const std::string& doing) {
      show(fmt::format("hecaton bench {}: {}", benchmark.name, doing));
    };
  }
  options.say("starting");
  Result<bench::Report> report = benchmark.measure(options, problem);
  if (show) show("");
  if (report.ok()) note_seal(options.seal, *report);
  return report;
}

// Of several benchmarks one may fail: the others took minutes, and are shown.
int run(Arguments& arguments, std::span<const bench::Benchmark> wanted) {
  std::string problem = check_arguments(arguments);
  if (!problem.empty()) {
    print_error("hecaton bench: {}\n", problem);
    return kExitUsage;
  }
  std::vector<bench::Report> reports;
  std::vector<Failure> failures;
  uint64_t wrong = 0;
  for (const bench::Benchmark& benchmark : wanted) {
    Result<bench::Report> report = measure(benchmark, arguments.options, &problem);
    if (report.ok()) {
      wrong += report->wrong;
      reports.push_back(std::move(report).value());
      continue;
    }
    print_error("hecaton bench {}: {}\n", benchmark.name, problem);
    const bool usage = report.error().code == ErrorCode::kInvalidArgument;
    failures.push_back({benchmark.name, problem, usage ? kExitUsage : kExitMachine});
  }
  print_reports(reports, failures, arguments.json, wanted.size() > 1);
  problem = arguments.html.empty() || reports.empty() ? "" : write_page(arguments.html, reports);
  if (!problem.empty()) print_error("hecaton bench: writing '{}': {}\n", arguments.html, problem);
  if (wrong > 0) print_error("hecaton bench: {} results were wrong; this is a bug, please report it\n", wrong);
  if (wrong > 0 || !problem.empty()) return 1;
  return failures.empty() ? 0 : failures[0].status;
}

}  // namespace

namespace {

std::string names_of_benchmarks() {
  std::string names;
  for (const bench::Benchmark& benchmark : bench::benchmarks()) names += std::string(benchmark.name) + ", ";
  return names + "or all";
}

// CLI11 says of an unknown word only that a subcommand is missing.
bool names_a_benchmark(const std::vector<std::string>& arguments) {
  if (!arguments.empty() && arguments[0].starts_with('-')) return true;  // --help, or what CLI11 explains
  auto is_it = [&](const bench::Benchmark& benchmark) { return arguments[0] == benchmark.name; };
  if (!arguments.empty() && (arguments[0] == "all" || std::ranges::any_of(bench::benchmarks(), is_it))) return true;
  print_error("hecaton bench: {} {}; hecaton bench --help tells what they measure\n",
              arguments.empty() ? "which one? Say" : fmt::format("there is no '{}'; say", arguments[0]),
              names_of_benchmarks());
  return false;
}

}  // namespace

int bench(const std::vector<std::string>& arguments) {
  if (!names_a_benchmark(arguments)) return kExitUsage;
  CLI::App app;
  app.name("hecaton bench");
  app.description(
      "Measures what paging costs here. Each figure stands beside the machine's own limit, taken in the same run.");
  app.require_subcommand(1);
  Arguments given;
  for (const bench::Benchmark& benchmark : bench::benchmarks()) {
    CLI::App* verb = app.add_subcommand(benchmark.name, benchmark.summary);
    verb->footer(benchmark.explanation);
    add_options(*verb, given, benchmark);
  }
  CLI::App* all = app.add_subcommand("all", "all of them, one after the other");
  all->footer(
      "--html FILE writes a page with the plots that needs nothing else. What cannot be measured here is told (JSON: "
      "failed),\n"
      "and the others are shown.");
  add_common_options(*all, given, true, true);
  if (auto status = parse_verb(app, arguments)) return *status;
  for (const bench::Benchmark& benchmark : bench::benchmarks()) {
    if (app.got_subcommand(benchmark.name)) return run(given, std::span(&benchmark, 1));
  }
  return run(given, bench::benchmarks());
}

}  // namespace hecaton::cli
