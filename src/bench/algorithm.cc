#include "bench/algorithm.h"

#include <fmt/format.h>

#include <algorithm>

namespace hecaton::bench {
namespace {

constexpr unsigned kLocalPercents[] = {50, 25};

struct Point {
  unsigned percent;
  double slowdown, seconds, local_seconds;
  double bytes_in, bytes_out;  // of one run
};

class Measurement {
 public:
  Measurement(const Algorithm& algorithm, const Options& options, std::byte* plain)
      : algorithm_(algorithm), options_(options), plain_(plain) {}

  Result<Point> measure(unsigned percent, std::string* problem) {
    auto region = HEC_TRY(open_region(options_, {algorithm_.bytes, algorithm_.bytes * percent / 100}, problem));
    std::vector<double> slowdowns, paged, local;
    uint64_t pages_in = 0, pages_out = 0;
    for (size_t repeat = 1; repeat <= options_.repeats; ++repeat) {
      options_.say(fmt::format("{} % local: repeat {} of {}", percent, repeat, options_.repeats));
      HEC_TRY(stream_.sample(options_, problem));
      local.push_back(seconds_on(plain_, [] {}));
      PagerStats before{};
      paged.push_back(seconds_on(region->data(), [&] { before = region->stats(); }));
      const PagerStats after = region->stats();
      slowdowns.push_back(paged.back() / local.back());
      pages_in += after.faults_remote + after.prefetched_pages - before.faults_remote - before.prefetched_pages;
      pages_out += after.written_back_pages - before.written_back_pages;
    }
    const double bytes_each = static_cast<double>(kPageBytes) / static_cast<double>(options_.repeats);
    return Point{percent,
                 median(slowdowns),
                 median(paged),
                 median(local),
                 static_cast<double>(pages_in) * bytes_each,
                 static_cast<double>(pages_out) * bytes_each};
  }
  double tcp_gbps() const { return stream_.gbps(); }
  uint64_t wrong() const { return wrong_; }

 private:
  template <typename Start>
  double seconds_on(std::byte* memory, Start about_to_start) {
    algorithm_.prepare(memory);
    about_to_start();
    Stopwatch watch;
    algorithm_.run(memory);
    const double took = watch.seconds();
    if (!algorithm_.check(memory)) ++wrong_;
    return took;
  }

  const Algorithm& algorithm_;
  const Options& options_;
  std::byte* const plain_;
  StreamLimit stream_;
  uint64_t wrong_ = 0;
};

// Were the wire never idle, and computing never waiting for it.
double floor_of(const Point& point, double tcp_gbps) {
  return std::max(1.0, point.bytes_in / 1e9 / tcp_gbps / point.local_seconds);
}

Report report_of(const Algorithm& algorithm, const std::vector<Point>& points, double tcp_gbps, uint64_t wrong) {
  Report report;
  report.name = algorithm.name;
  report.title = algorithm.title;
  report.headline = fmt::format("{:.2f}×", points[0].slowdown);
  report.meaning = fmt::format("the time of all local memory with {} % of it local", points[0].percent);
  report.table.columns = {"local", "slowdown", "floor", "seconds", "MB in", "MB out"};
  BarPlot plot{"Times the time of all local memory", "floor: the pages that came in, at raw TCP's rate", {}};
  for (const Point& point : points) {
    const double floor = floor_of(point, tcp_gbps);
    report.figures["slowdown"][std::to_string(point.percent)] = point.slowdown;
    report.figures["local"].push_back({{"percent", point.percent},
                                       {"slowdown", point.slowdown},
                                       {"seconds", point.seconds},
                                       {"all_local_seconds", point.local_seconds},
                                       {"bytes_in", point.bytes_in},
                                       {"bytes_out", point.bytes_out},
                                       {"floor", {{"slowdown", floor}}}});
    report.table.rows.push_back({fmt::format("{} %", point.percent), fmt::format("{:.2f}×", point.slowdown),
                                 fmt::format("{:.2f}×", floor), fmt::format("{:.2f}", point.seconds),
                                 fmt::format("{:.0f}", point.bytes_in / 1e6),
                                 fmt::format("{:.0f}", point.bytes_out / 1e6)});
    plot.bars.push_back(
        {fmt::format("{} % local", point.percent), point.slowdown, floor, fmt::format("{:.2f}×", point.slowdown)});
  }
  report.table.rows.push_back(
      {"all local, no pager", "1.00×", "", fmt::format("{:.2f}", points[0].local_seconds), "", ""});
  report.figures["bytes"] = algorithm.bytes;
  report.figures["limit"] = {{"tcp_gbps", tcp_gbps}};
  report.notes = {fmt::format("{} of memory; against the same work on memory without a pager, run in turn; medians of "
                              "the repeats; {}",
                              format_size(algorithm.bytes), algorithm.checked),
                  fmt::format("floor: the pages that came in at raw TCP's {:.2f} GB/s, if the wire were never idle and "
                              "nothing waited for it",
                              tcp_gbps),
                  kStreamLimitNote};
  report.bars = {std::move(plot)};
  report.wrong = wrong;
  return report;
}

}  // namespace

Result<Report> measure_algorithm(const Algorithm& algorithm, const Options& options, std::string* problem) {
  PlainMemory plain = HEC_TRY(explained(problem, PlainMemory::create(algorithm.bytes)));
  Measurement measurement(algorithm, options, plain.data());
  std::vector<Point> points;
  for (unsigned percent : kLocalPercents) points.push_back(HEC_TRY(measurement.measure(percent, problem)));
  return report_of(algorithm, points, measurement.tcp_gbps(), measurement.wrong());
}

}  // namespace hecaton::bench
