// Compares eviction policies on traces made from a seed: misses, length of runs, what the kernel would charge.
//
//   policy_sim [TRACE]... [--policy NAME]... [--seed N] [--miss-us N] [--json]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "contender.h"
#include "simulate.h"

namespace hecaton::sim {
namespace {

struct Row {
  std::string trace, policy;
  Outcome outcome;
};

void print(const std::vector<Row>& rows) {
  fmt::print("{:18} {:14} {:>8} {:>10} {:>12} {:>12}\n", "trace", "policy", "misses", "pages/run", "evict us/page",
             "us/access");
  for (const Row& row : rows) {
    const Outcome& o = row.outcome;
    if (o.runs == 0) {
      fmt::print("{:18} {:14} {:8.4f}\n", row.trace, row.policy, o.miss_ratio());
    } else {
      fmt::print("{:18} {:14} {:8.4f} {:10.1f} {:12.2f} {:12.3f}\n", row.trace, row.policy, o.miss_ratio(),
                 o.pages_per_run(), o.evict_us_per_page(), o.us_per_access());
    }
  }
}

void print_json(const std::vector<Row>& rows, uint64_t seed) {
  nlohmann::ordered_json json;
  json["seed"] = seed;
  json["rows"] = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    const Outcome& o = row.outcome;
    json["rows"].push_back({{"trace", row.trace},
                            {"policy", row.policy},
                            {"accesses", o.accesses},
                            {"miss_ratio", o.miss_ratio()},
                            {"protect_faults", o.protect_faults},
                            {"prefetched", o.prefetched},
                            {"evicted", o.evicted},
                            {"sent", o.sent},
                            {"pages_per_run", o.pages_per_run()},
                            {"evict_us_per_page", o.evict_us_per_page()},
                            {"us_per_access", o.us_per_access()}});
  }
  fmt::print("{}\n", json.dump(2));
}

}  // namespace
}  // namespace hecaton::sim

int main(int argc, char** argv) {
  using namespace hecaton::sim;
  std::vector<std::string> traces = trace_names(), policies = policy_names();
  policies.push_back("optimum");
  uint64_t seed = 1;
  Costs costs;
  bool json = false;
  CLI::App app("Compares eviction policies on traces made from a seed.");
  app.add_option("trace", traces, "traces to run; all by default")->check(CLI::IsMember(traces));
  app.add_option("--policy", policies, "policies to compare; all by default")->check(CLI::IsMember(policies));
  app.add_option("--seed", seed, "of the traces")->capture_default_str();
  app.add_option("--miss-us", costs.miss, "what a miss costs, in microseconds")->capture_default_str();
  app.add_flag("--json", json, "report as JSON");
  CLI11_PARSE(app, argc, argv);

  std::vector<Row> rows;
  for (const std::string& name : traces) {
    const Trace trace = make_trace(name, seed);
    for (const std::string& policy : policies) {
      if (policy == "optimum" && trace.prefetch) continue;  // it would need to know what is fetched ahead
      rows.push_back({name, policy, policy == "optimum" ? simulate_optimum(trace) : simulate(trace, policy, costs)});
    }
  }
  json ? print_json(rows, seed) : print(rows);
}
