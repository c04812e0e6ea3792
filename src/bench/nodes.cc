// bench nodes: what a remote fault costs when the memory is spread over very many donors.
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cstdio>

#include "bench/benchmarks.h"
#include "bench/many_donors.h"
#include "bench/raw_tcp.h"
#include "bench/remote_reads.h"
#include "os/open_files.h"

namespace hecaton::bench {
namespace {

constexpr size_t kCounts[] = {1, 10, 100, 1000, 10'000};
constexpr size_t kQuickCounts[] = {1, 10, 100};
// More extents than donors, so that each holds some, and few pages in each, so that the machine has room for all.
constexpr UsedPages kPages{10'240, 6}, kQuickPages{512, 6};
constexpr uint64_t kLocalBytes = 32_MiB, kQuickLocalBytes = 2_MiB;

// What was measured over a pool, or over as many connections, beside the same with one: in turn, once a repeat.
class Beside {
 public:
  void add(Quantiles many, const Quantiles& one) {
    ratios_.push_back(many.p50_us / one.p50_us);
    more_us_.push_back(many.p50_us - one.p50_us);
    many_.push_back(std::move(many));
  }
  Quantiles many() const { return median(many_); }
  double to_one() const { return median(ratios_); }  // of the p50
  double more_us() const { return median(more_us_); }

 private:
  std::vector<Quantiles> many_;
  std::vector<double> ratios_, more_us_;
};

struct Point {
  size_t donors;
  Beside fault, tcp;
  FaultStages stages;
  double bytes_per_donor;  // of this process
  uint64_t descriptors;
  double connect_s;
};
struct Skipped {
  size_t donors;
  std::string why;
};

// Memory of this process that is its own: no page of a region, no table.
uint64_t own_bytes() {
  malloc_trim(0);  // else what the last pool left behind would hide what this one takes
  uint64_t kib = 0;
  FILE* status = fopen("/proc/self/status", "r");
  if (!status) return 0;
  char line[256];
  while (fgets(line, sizeof line, status)) {
    if (sscanf(line, "RssAnon: %lu kB", &kib) == 1) break;
  }
  fclose(status);
  return kib * 1024;
}

// A region over `donors` donors in a process of their own, filled.
struct Pool {
  ManyDonors donors;
  std::unique_ptr<PagedRegion> region;
  uint64_t bytes;  // that it takes of this process's own memory
  uint64_t descriptors;
  double connect_s;
};

class Measurement {
 public:
  explicit Measurement(const Options& options)
      : options_(options), pages_(options.quick ? kQuickPages : kPages), rounds_(options.rounds_or(10'000, 500)) {}

  Result<Pool> open(size_t count, std::string* problem) {
    options_.say(fmt::format("connecting to {} donors", count));
    const uint64_t lends = (pages_.extents / count + 2) * kExtentBytes;
    ManyDonors donors = HEC_TRY(ManyDonors::start(count, lends, problem));
    Options with_donors = options_;
    with_donors.nodes = donors.addresses();
    const uint64_t local = options_.local_bytes != 0 ? options_.local_bytes
                           : options_.quick          ? kQuickLocalBytes
                                                     : kLocalBytes;
    const uint64_t bytes_before = own_bytes(), descriptors_before = count_open_files();
    Stopwatch watch;
    auto region = HEC_TRY(open_region(with_donors, {pages_.extents * kExtentBytes, local, 0}, problem));
    const double took = watch.seconds();
    options_.say(fmt::format("{} donors: filling memory", count));
    fill(*region, pages_);
    (void)read_remote(*region, pages_, rounds_, 1, &wrong_);  // warm
    const uint64_t bytes = std::max(own_bytes(), bytes_before) - bytes_before;
    return Pool{std::move(donors), std::move(region), bytes, count_open_files() - descriptors_before, took};
  }

  Result<Point> measure(size_t count, const Pool& one, std::string* problem) {
    Point point = HEC_TRY(measure_faults(count, one, problem));
    HEC_TRY(measure_tcp(&point, problem));
    return point;
  }

  const FaultLimits& limits() const { return limits_; }
  uint64_t wrong() const { return wrong_; }

 private:
  Result<Point> measure_faults(size_t count, const Pool& one, std::string* problem) {
    Pool pool = HEC_TRY(open(count, problem));
    const double more = static_cast<double>(pool.bytes) - (count > 1 ? static_cast<double>(one.bytes) : 0);
    Point point{.donors = count,
                .fault = {},
                .tcp = {},
                .stages = {},
                .bytes_per_donor = std::max(more, 0.0) / static_cast<double>(std::max<size_t>(count - 1, 1)),
                .descriptors = pool.descriptors,
                .connect_s = pool.connect_s};
    for (size_t repeat = 1; repeat <= options_.repeats; ++repeat) {
      options_.say(fmt::format("{} donors: repeat {} of {}", count, repeat, options_.repeats));
      HEC_TRY(limits_.sample(options_, problem));
      FaultStages of_one;  // marked as the others are, for the same conditions
      const Quantiles with_one = read(*one.region, repeat + 1, &of_one);
      point.fault.add(read(*pool.region, repeat + 1, &point.stages), with_one);
    }
    return point;
  }

  // When the pool is gone: this process may not have descriptors enough for both.
  Result<void> measure_tcp(Point* point, std::string* problem) {
    options_.say(fmt::format("plain TCP over {} connections", point->donors));
    RawTcp one = HEC_TRY(explained(problem, RawTcp::start(1)));
    RawTcp many = HEC_TRY(explained(problem, RawTcp::start(point->donors)));
    for (size_t repeat = 1; repeat <= options_.repeats; ++repeat) {
      const Quantiles with_one = HEC_TRY(explained(problem, one.measure(rounds_, repeat)));
      point->tcp.add(HEC_TRY(explained(problem, many.measure(rounds_, repeat))), with_one);
    }
    return {};
  }

  Quantiles read(const PagedRegion& region, uint64_t seed, FaultStages* stages) {
    std::vector<int64_t> samples = read_remote(region, pages_, rounds_, seed, &wrong_, stages);
    return quantiles_of(samples);
  }

  const Options& options_;
  const UsedPages pages_;
  const size_t rounds_;
  FaultLimits limits_;
  uint64_t wrong_ = 0;
};

// Why this machine cannot have so many donors; empty if it can.
std::string too_many(size_t donors) {
  const uint64_t wanted = ManyDonors::descriptors_for_pager(donors);
  const uint64_t limit = raise_open_files(wanted);
  if (limit >= wanted) return "";
  return fmt::format(
      "needs {} open files, and the limit is {}: run it as root, or raise the hard limit (ulimit -Hn {})", wanted,
      limit, wanted);
}

nlohmann::ordered_json json_of(FaultStages stages) {
  return {{"event_wait_us", quantiles_of(stages.event_wait).p50_us},
          {"table_us", quantiles_of(stages.table).p50_us},
          {"send_us", quantiles_of(stages.send).p50_us},
          {"wire_us", quantiles_of(stages.wire).p50_us},
          {"install_us", quantiles_of(stages.install).p50_us},
          {"wake_us", quantiles_of(stages.wake).p50_us}};
}

nlohmann::ordered_json json_of(const Point& point, const FaultLimits& limits) {
  const Quantiles fault = point.fault.many();
  return {{"donors", point.donors},
          {"p50_us", fault.p50_us},
          {"p90_us", fault.p90_us},
          {"p99_us", fault.p99_us},
          {"ratio_to_one", point.fault.to_one()},
          {"more_us", point.fault.more_us()},
          {"tcp_us", point.tcp.many().p50_us},
          {"tcp_ratio_to_one", point.tcp.to_one()},
          {"tcp_more_us", point.tcp.more_us()},
          {"ratio", fault.p50_us / limits.sum_us()},
          {"stages", json_of(point.stages)},
          {"host_bytes_per_donor", point.bytes_per_donor},
          {"descriptors", point.descriptors},
          {"connect_s", point.connect_s}};
}

nlohmann::ordered_json json_of(const std::vector<Point>& points, const std::vector<Skipped>& skipped,
                               const FaultLimits& limits) {
  nlohmann::ordered_json json;
  json["pools"] = nlohmann::ordered_json::array();
  for (const Point& point : points) json["pools"].push_back(json_of(point, limits));
  json["skipped"] = nlohmann::ordered_json::array();
  for (const Skipped& skip : skipped) json["skipped"].push_back({{"donors", skip.donors}, {"why", skip.why}});
  json["limit"] = {{"uffd_us", limits.uffd().p50_us}, {"tcp_us", limits.tcp().p50_us}};
  return json;
}

std::vector<LinePlot> plots_of(const std::vector<Point>& points, const FaultLimits& limits) {
  LinePlot cost{"A remote fault with many donors", "donors", "µs", true, true, {}};
  cost.lines = {{"p50", false, {}},
                {"p99", false, {}},
                {"plain TCP, as many connections", true, {}},
                {"limit: raw userfault and raw TCP", true, {}}};
  LinePlot memory{"This machine's memory for each donor", "donors", "KiB", true, false, {{"memory", false, {}}}};
  for (const Point& point : points) {
    const double donors = static_cast<double>(point.donors);
    const Quantiles fault = point.fault.many();
    cost.lines[0].points.emplace_back(donors, fault.p50_us);
    cost.lines[1].points.emplace_back(donors, fault.p99_us);
    cost.lines[2].points.emplace_back(donors, point.tcp.many().p50_us);
    cost.lines[3].points.emplace_back(donors, limits.sum_us());
    if (point.donors > 1) memory.lines[0].points.emplace_back(donors, point.bytes_per_donor / 1024);
  }
  return {std::move(cost), std::move(memory)};
}

std::vector<std::string> row_of(const Point& point) {
  const Quantiles fault = point.fault.many();
  return {std::to_string(point.donors),
          fmt::format("{:.1f}", fault.p50_us),
          fmt::format("{:.1f}", fault.p99_us),
          fmt::format("{:.2f}×", point.fault.to_one()),
          fmt::format("{:+.1f}", point.fault.more_us()),
          fmt::format("{:.1f}", point.tcp.many().p50_us),
          fmt::format("{:.2f}×", point.tcp.to_one()),
          fmt::format("{:+.1f}", point.tcp.more_us()),
          fmt::format("{:.1f}", point.bytes_per_donor / 1024),
          std::to_string(point.descriptors),
          fmt::format("{:.2f}", point.connect_s)};
}

Report report_of(const std::vector<Point>& points, const std::vector<Skipped>& skipped, const FaultLimits& limits,
                 uint64_t wrong) {
  Report report;
  report.name = "nodes";
  report.title = "random 4 KiB reads of remote pages, spread over many donors";
  const Point& most = points.back();
  report.headline = fmt::format("{:.2f}×", most.fault.to_one());
  report.meaning = fmt::format("a fault's p50 with {} donors against one donor; plain TCP alone {:.2f}×", most.donors,
                               most.tcp.to_one());
  report.figures = json_of(points, skipped, limits);
  report.table.columns = {"donors",     "p50 µs",      "p99 µs",      "to one",      "more µs",      "TCP µs",
                          "TCP to one", "TCP more µs", "KiB a donor", "descriptors", "connecting, s"};
  for (const Point& point : points) report.table.rows.push_back(row_of(point));
  report.table.rows.push_back({"limit", fmt::format("{:.1f}", limits.sum_us()), "", "", "", "", "", "", "", "", ""});
  report.notes = {
      "the donors are in as few helper processes as the limit of open files allows, each with one serving thread; a "
      "pool "
      "of one donor is measured in turn with each pool; medians of the repeats",
      "TCP: the p50 of a request and reply of a demand read's sizes without donor, pager or page, over as many "
      "connections as there are donors to one more helper process, each time over one chosen at random; this end spins "
      "on that socket, the other on one epoll of them all. Taken right after the pool, one connection in turn with "
      "many; "
      "what many cost more there, because their sockets are in no cache, a fault pays too",
      "KiB a donor: this process's own memory with the pool less that with one donor, by donor; what the kernel keeps "
      "for a connection is not in it",
      fault_limit_note()};
  for (const Skipped& skip : skipped) {
    report.notes.insert(report.notes.begin(), fmt::format("left out: {} donors: {}", skip.donors, skip.why));
  }
  report.lines = plots_of(points, limits);
  report.wrong = wrong;
  return report;
}

}  // namespace

Result<Report> measure_nodes(const Options& options, std::string* problem) {
  Measurement measurement(options);
  std::vector<Point> points;
  std::vector<Skipped> skipped;
  const Pool one = HEC_TRY(measurement.open(1, problem));
  const std::span<const size_t> counts = options.quick ? std::span<const size_t>(kQuickCounts) : kCounts;
  for (size_t count : counts) {
    if (std::string why = too_many(count); !why.empty()) {
      skipped.push_back({count, std::move(why)});
      continue;
    }
    points.push_back(HEC_TRY(measurement.measure(count, one, problem)));
  }
  return report_of(points, skipped, measurement.limits(), measurement.wrong());
}

}  // namespace hecaton::bench
