// bench fault: what one remote page fault costs.
#include <fmt/format.h>

#include <optional>

#include "bench/benchmarks.h"
#include "bench/remote_reads.h"

namespace hecaton::bench {
namespace {

struct Stage {
  const char* key;
  const char* name;
  Quantiles took;
};

std::vector<Stage> stages_of(FaultStages& stages) {
  return {{"event_wait_us", "until the event is read", quantiles_of(stages.event_wait)},
          {"table_us", "table", quantiles_of(stages.table)},
          {"send_us", "send", quantiles_of(stages.send)},
          {"wire_us", "wire, and the donor", quantiles_of(stages.wire)},
          {"install_us", "check and install", quantiles_of(stages.install)},
          {"wake_us", "until the reader goes on", quantiles_of(stages.wake)}};
}

struct Tls {
  Quantiles fault;
  std::vector<Stage> stages;
  Quantiles aes;
};

struct Figures {
  Quantiles fault, uffd, tcp;
  std::vector<Stage> stages;
  PagerStats stats;
  std::optional<Tls> tls;
  double ratio() const {
    const double limit = uffd.p50_us + tcp.p50_us;
    return limit > 0 ? fault.p50_us / limit : 0;
  }
};

nlohmann::ordered_json json_of(const Figures& figures) {
  nlohmann::ordered_json json = {{"p50_us", figures.fault.p50_us},
                                 {"p90_us", figures.fault.p90_us},
                                 {"p99_us", figures.fault.p99_us},
                                 {"limit", {{"uffd_us", figures.uffd.p50_us}, {"tcp_us", figures.tcp.p50_us}}},
                                 {"ratio", figures.ratio()},
                                 {"faults_remote", figures.stats.faults_remote},
                                 {"table_bytes_per_page", figures.stats.table_bytes_per_page}};
  for (const Stage& stage : figures.stages) json["stages"][stage.key] = stage.took.p50_us;
  if (!figures.tls) return json;
  const Tls& tls = *figures.tls;
  json["tls"] = {{"p50_us", tls.fault.p50_us},
                 {"p90_us", tls.fault.p90_us},
                 {"p99_us", tls.fault.p99_us},
                 {"over_plain_us", tls.fault.p50_us - figures.fault.p50_us},
                 {"over_plain_ratio", figures.fault.p50_us > 0 ? tls.fault.p50_us / figures.fault.p50_us : 0},
                 {"aes_page_us", tls.aes.p50_us}};
  for (const Stage& stage : tls.stages) json["tls"]["stages"][stage.key] = stage.took.p50_us;
  return json;
}

LinePlot distribution_plot(const Figures& figures) {
  LinePlot plot{"How long a remote fault takes", "µs", "% done by then", true, false, {}};
  for (const auto& [name, limit, quantiles] :
       {std::tuple("remote fault", false, &figures.fault), std::tuple("limit: raw userfault", true, &figures.uffd),
        std::tuple("limit: raw TCP", true, &figures.tcp)}) {
    LinePlot::Line line{name, limit, {}};
    for (size_t i = 0; i < quantiles->percentiles_us.size(); ++i) {
      // A limit's tail tells of other work on the machine; it must not squeeze what the plot is about.
      if (quantiles->percentiles_us[i] > 3 * figures.fault.p99_us) break;
      line.points.emplace_back(quantiles->percentiles_us[i], static_cast<double>(i));
    }
    plot.lines.push_back(std::move(line));
  }
  return plot;
}

Report report_of(const Figures& figures, uint64_t wrong) {
  auto row = [](const char* what, const Quantiles& q) {
    return std::vector<std::string>{what, fmt::format("{:.1f}", q.p50_us), fmt::format("{:.1f}", q.p90_us),
                                    fmt::format("{:.1f}", q.p99_us)};
  };
  Report report;
  report.name = "fault";
  report.title = "random 4 KiB reads of remote pages";
  report.headline = fmt::format("{:.2f}×", figures.ratio());
  report.meaning = "the sum of both limits, at p50";
  if (figures.ratio() < 1) report.meaning += ": other work disturbed the measuring of the limits, run it again";
  report.figures = json_of(figures);
  report.table = {{"microseconds", "p50", "p90", "p99"},
                  {row("remote fault", figures.fault), row("limit: raw userfault", figures.uffd),
                   row("limit: raw loopback TCP", figures.tcp)}};
  for (const Stage& stage : figures.stages) {
    report.table.rows.push_back(row(fmt::format("  {}", stage.name).c_str(), stage.took));
  }
  if (figures.tls) {
    report.table.rows.push_back(row("remote fault over TLS", figures.tls->fault));
    for (const Stage& stage : figures.tls->stages) {
      report.table.rows.push_back(row(fmt::format("  {}", stage.name).c_str(), stage.took));
    }
    report.table.rows.push_back(row("AES-128-GCM of a page, once", figures.tls->aes));
  }
  report.notes = {"only reads of pages that were not here count; medians of the repeats", fault_limit_note()};
  report.lines = {distribution_plot(figures)};
  report.wrong = wrong;
  return report;
}

// A region, and what is measured of it.
struct Measured {
  std::unique_ptr<PagedRegion> region;
  std::vector<Quantiles> faults = {};
  FaultStages stages = {};
};

Result<Measured> prepare(const Options& options, const RegionShape& shape, UsedPages pages, std::string* problem) {
  Measured measured{HEC_TRY(open_region(options, shape, problem))};
  fill(*measured.region, pages);
  return measured;
}

}  // namespace

Result<Report> measure_fault(const Options& options, std::string* problem) {
  RegionShape shape = HEC_TRY(mostly_remote(options, 256_MiB, 64_MiB, problem));
  shape.prefetch_pages = 0;  // random reads: a guess at the next one would only get in their way
  const UsedPages pages{shape.bytes / kExtentBytes};
  options.say("filling memory");
  std::vector<Measured> measured;
  measured.push_back(HEC_TRY(prepare(options, shape, pages, problem)));
  shape.embedded_tls = true;
  if (options.tls) measured.push_back(HEC_TRY(prepare(options, shape, pages, problem)));
  const size_t rounds = options.rounds_or(20'000, 1000);
  uint64_t wrong = 0;
  for (Measured& one : measured) (void)read_remote(*one.region, pages, rounds / 4, 1, &wrong);  // warm
  std::vector<Quantiles> aes;
  FaultLimits limits;
  for (size_t repeat = 1; repeat <= options.repeats; ++repeat) {
    options.say(fmt::format("repeat {} of {}", repeat, options.repeats));
    HEC_TRY(limits.sample(options, problem));
    if (options.tls) aes.push_back(measure_aes(rounds));
    for (Measured& one : measured) {
      std::vector<int64_t> samples = read_remote(*one.region, pages, rounds, repeat + 1, &wrong, &one.stages);
      one.faults.push_back(quantiles_of(samples));
    }
  }
  Measured& plain = measured.front();
  std::optional<Tls> tls;
  if (options.tls) tls = Tls{median(measured.back().faults), stages_of(measured.back().stages), median(aes)};
  return report_of({median(plain.faults), limits.uffd(), limits.tcp(), stages_of(plain.stages), plain.region->stats(),
                    std::move(tls)},
                   wrong);
}

}  // namespace hecaton::bench
