// hecaton bench: what paging costs on this machine, beside what the machine itself costs.
#include <fmt/format.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

#include "base/clock.h"
#include "base/units.h"
#include "base/version.h"
#include "capi/paged_region.h"
#include "cli/bench_limits.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace hecaton::cli {
namespace {

struct FaultOptions {
  size_t rounds = 20'000;
  std::vector<std::string> nodes;
  bool insecure = false;
  bool json = false;
};

struct FaultFigures {
  Quantiles fault, raw_fault, raw_tcp;
  PagerStats stats;
  size_t wrong = 0;
};

constexpr uint64_t kRegionBytes = 256_MiB;
constexpr uint64_t kLocalBytes = 32_MiB;

// Makes the whole region remote but for what fits, with a recognizable word in every page.
void fill(PagedRegion& region) {
  for (uint64_t page = 0; page < kRegionBytes / kPageBytes; ++page) {
    auto* words = reinterpret_cast<volatile uint64_t*>(region.data() + page * kPageBytes);
    words[0] = page * 0x9e3779b97f4a7c15ull | 1;
    words[100] = page;
  }
}

// Reads one word of random pages. Only pages that were not resident before are counted: the pager tells by its counter.
void read_at_random(PagedRegion& region, size_t rounds, FaultFigures* figures) {
  std::mt19937_64 random(1);
  std::vector<int64_t> samples;
  while (samples.size() < rounds) {
    const uint64_t page = random() % (kRegionBytes / kPageBytes);
    auto* words = reinterpret_cast<volatile uint64_t*>(region.data() + page * kPageBytes);
    unsigned char resident = 0;
    // mincore tells of the file's page, not of the mapping: a page that is nowhere here is a remote one.
    mincore(region.data() + page * kPageBytes, kPageBytes, &resident);
    int64_t start = monotonic_ns();
    uint64_t word = words[0];
    int64_t took = monotonic_ns() - start;
    if (word != (page * 0x9e3779b97f4a7c15ull | 1)) ++figures->wrong;
    if ((resident & 1) == 0) samples.push_back(took);
  }
  figures->fault = quantiles_of(samples);
}

Result<FaultFigures> measure_faults(const FaultOptions& options, std::string* problem) {
  FaultFigures figures;
  const size_t limit_rounds = std::max<size_t>(options.rounds / 2, 2000);  // fewer say nothing on a busy machine
  PagedRegionConfig config;
  config.bytes = kRegionBytes;
  config.local_bytes = kLocalBytes;
  config.insecure = options.insecure;
  config.prefetch_pages = 0;  // random reads; a guess would only get in their way
  for (const std::string& text : options.nodes) {
    Result<NodeUrl> url = parse_node_url(text);
    if (!url.ok()) {
      *problem = fmt::format("--node '{}': {}", text, url.error().context);
      return url.error();
    }
    config.nodes.push_back(std::move(url).value());
  }
  auto explain = [&](auto result) {
    if (!result.ok()) *problem = result.error().describe();
    return result;
  };
  figures.raw_fault = HEC_TRY(explain(measure_raw_fault(limit_rounds)));
  figures.raw_tcp = HEC_TRY(explain(measure_raw_tcp(limit_rounds)));
  auto region = HEC_TRY(PagedRegion::open(std::move(config), problem));
  fill(*region);
  read_at_random(*region, options.rounds, &figures);
  figures.stats = region->stats();
  return figures;
}

double ratio_of(const FaultFigures& figures) {
  double limit = figures.raw_fault.p50_us + figures.raw_tcp.p50_us;
  return limit > 0 ? figures.fault.p50_us / limit : 0;
}

void print_json(const FaultFigures& figures) {
  nlohmann::ordered_json json = {{"bench", "fault"},
                                 {"p50_us", figures.fault.p50_us},
                                 {"p90_us", figures.fault.p90_us},
                                 {"p99_us", figures.fault.p99_us},
                                 {"limit", {{"uffd_us", figures.raw_fault.p50_us}, {"tcp_us", figures.raw_tcp.p50_us}}},
                                 {"ratio", ratio_of(figures)},
                                 {"wrong", figures.wrong},
                                 {"faults_remote", figures.stats.faults_remote},
                                 {"table_bytes_per_page", figures.stats.table_bytes_per_page},
                                 {"version", kVersion}};
  print_output("{}\n", json.dump(2));
}

void print_table(const FaultFigures& figures) {
  auto row = [](const char* what, const Quantiles& q) {
    print_output("  {:<34} {:>8.1f} {:>8.1f} {:>8.1f}\n", what, q.p50_us, q.p90_us, q.p99_us);
  };
  print_output("hecaton bench fault: random 4 KiB reads of remote pages, microseconds\n");
  print_output("  {:<34} {:>8} {:>8} {:>8}\n", "", "p50", "p90", "p99");
  row("remote fault", figures.fault);
  row("limit: raw userfault, spinning", figures.raw_fault);
  row("limit: raw loopback TCP, spinning", figures.raw_tcp);
  print_output("  p50 is {:.2f} times the sum of both limits{}\n", ratio_of(figures),
               ratio_of(figures) < 1 ? ": other work disturbed the measuring of the limits, run it again" : "");
}

int bench_fault(const FaultOptions& options) {
  std::string problem;
  Result<FaultFigures> figures = measure_faults(options, &problem);
  if (!figures.ok()) {
    print_error("hecaton bench: {}\n", problem);
    return figures.error().code == ErrorCode::kInvalidArgument ? kExitUsage : kExitMachine;
  }
  options.json ? print_json(*figures) : print_table(*figures);
  if (figures->wrong == 0) return 0;
  print_error("hecaton bench: {} pages came back with wrong bytes; this is a bug, please report it\n", figures->wrong);
  return 1;
}

}  // namespace

int bench(const std::vector<std::string>& arguments) {
  CLI::App app;
  app.name("hecaton bench");
  app.description("Measures what paging costs here, beside the machine's own limit in the same run.");
  app.require_subcommand(1);
  FaultOptions options;
  CLI::App* fault = app.add_subcommand("fault", "random 4 KiB faults on remote pages");
  fault->add_option("--rounds", options.rounds, "faults to measure")
      ->check(CLI::Range(100, 10'000'000))
      ->capture_default_str();
  fault->add_option("--node", options.nodes, "a donor to use; default: an embedded one over loopback TCP")
      ->type_name("URL");
  fault->add_flag("--insecure", options.insecure, "use donors on other machines although nothing is encrypted yet");
  fault->add_flag("--json", options.json, "figures as JSON");
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  return bench_fault(options);
}

}  // namespace hecaton::cli
