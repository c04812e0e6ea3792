// bench zipf: a key-value loop whose keys are wanted unequally, with less and less of its memory here.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "bench/benchmarks.h"
#include "bench/value_store.h"
#include "bench/zipf_numbers.h"

namespace hecaton::bench {
namespace {

constexpr double kSkew = 0.99;
constexpr uint64_t kReadsPerWrite = 9;
constexpr unsigned kLocalPercents[] = {100, 50, 25, 10};

// One share of local memory: what was measured, and what nobody could better.
struct Point {
  unsigned percent;
  double slowdown, ops_per_s, local_ops_per_s, miss_ratio;
  double best_miss_ratio, floor_slowdown;
};

// The loop, and how often it wanted each page.
class Load {
 public:
  Load(ValueStore& store, const ZipfNumbers& numbers, uint64_t pages)
      : store_(store), numbers_(numbers), uses_(pages) {}

  // Operations by second.
  double run(double seconds, uint64_t seed) {
    std::mt19937_64 random(seed);
    Stopwatch watch;
    uint64_t done = 0;
    for (double until = watch.seconds(); until < seconds; until = watch.seconds()) {
      for (int i = 0; i < kOpsPerLook; ++i) operate(random);
      done += kOpsPerLook;
    }
    ops_ += done;
    return static_cast<double>(done) / watch.seconds();
  }
  void forget_uses() {
    std::fill(uses_.begin(), uses_.end(), 0);
    ops_ = 0;
  }
  uint64_t ops() const { return ops_; }
  // Had the pages that are wanted most been here all the time, and no others: the share of operations that had missed.
  double best_miss_ratio(uint64_t local_pages) const {
    if (ops_ == 0) return 0;
    std::vector<uint64_t> sorted = uses_;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    const auto first_remote = sorted.begin() + static_cast<std::ptrdiff_t>(std::min(local_pages, sorted.size()));
    return static_cast<double>(std::accumulate(first_remote, sorted.end(), uint64_t{0})) / static_cast<double>(ops_);
  }

 private:
  static constexpr int kOpsPerLook = 100;

  void operate(std::mt19937_64& random) {
    const uint64_t key = numbers_.next(random);
    ++uses_[store_.page_of(key)];
    if (random() % (kReadsPerWrite + 1) == 0) {
      store_.write(key);
    } else {
      store_.read(key);
    }
  }

  ValueStore& store_;
  const ZipfNumbers& numbers_;
  std::vector<uint64_t> uses_;
  uint64_t ops_ = 0;
};

struct Shared {
  const Options& options;
  const uint64_t bytes;
  ValueStore& local_store;
  const ZipfNumbers& numbers;
  FaultLimits limits;
  uint64_t wrong = 0;
};

Result<Point> measure_point(Shared& shared, unsigned percent, std::string* problem) {
  const Options& options = shared.options;
  const double seconds = options.quick ? 0.05 : 1;
  const uint64_t local_bytes = shared.bytes * percent / 100, pages = shared.bytes / kPageBytes;
  auto region = HEC_TRY(open_region(options, {shared.bytes, local_bytes}, problem));
  ValueStore store(region->data(), shared.bytes);
  Load paged(store, shared.numbers, pages), local(shared.local_store, shared.numbers, pages);
  options.say(fmt::format("{} % local: warming up", percent));
  paged.run(3 * seconds, 1);
  local.run(seconds / 2, 1);
  paged.forget_uses();
  const PagerStats before = region->stats();
  std::vector<double> slowdowns, ops, local_ops;
  for (size_t repeat = 1; repeat <= options.repeats; ++repeat) {
    options.say(fmt::format("{} % local: repeat {} of {}", percent, repeat, options.repeats));
    local_ops.push_back(local.run(seconds, repeat + 1));
    ops.push_back(paged.run(seconds, repeat + 1));
    slowdowns.push_back(local_ops.back() / ops.back());
    HEC_TRY(shared.limits.sample(options, problem));
  }
  const double missed = static_cast<double>(region->stats().faults_remote - before.faults_remote);
  shared.wrong += store.wrong();
  Point point{percent,
              median(slowdowns),
              median(ops),
              median(local_ops),
              missed / static_cast<double>(paged.ops()),
              paged.best_miss_ratio(local_bytes / kPageBytes),
              0};
  const double local_us = 1e6 / point.local_ops_per_s;
  point.floor_slowdown = (local_us + point.best_miss_ratio * shared.limits.sum_us()) / local_us;
  return point;
}

nlohmann::ordered_json json_of(const std::vector<Point>& points, const FaultLimits& limits) {
  nlohmann::ordered_json json;
  for (const Point& point : points) json["slowdown"][std::to_string(point.percent)] = point.slowdown;
  for (const Point& point : points) {
    json["local"].push_back({{"percent", point.percent},
                             {"slowdown", point.slowdown},
                             {"ops_per_s", point.ops_per_s},
                             {"all_local_ops_per_s", point.local_ops_per_s},
                             {"miss_ratio", point.miss_ratio},
                             {"floor", {{"miss_ratio", point.best_miss_ratio}, {"slowdown", point.floor_slowdown}}}});
  }
  json["skew"] = kSkew;
  json["value_bytes"] = ValueStore::kValueBytes;
  json["limit"] = {{"uffd_us", limits.uffd().p50_us}, {"tcp_us", limits.tcp().p50_us}};
  return json;
}

Report report_of(const std::vector<Point>& points, const FaultLimits& limits, uint64_t wrong) {
  Report report;
  report.name = "zipf";
  report.title = "a key-value loop: skew 0.99, 1 KiB values scattered over memory, 10 % writes";
  report.headline = fmt::format("{:.2f}×", points[1].slowdown);
  report.meaning = fmt::format("the time of all local memory with {} % of it local; the floor is {:.2f}×",
                               points[1].percent, points[1].floor_slowdown);
  report.figures = json_of(points, limits);
  report.table.columns = {"local", "slowdown", "floor", "ops/s", "misses", "best misses"};
  LinePlot plot{"Slowdown of a key-value loop", "% of its memory that is local", "times all-local", false, true, {}};
  plot.lines = {{"measured", false, {}}, {"floor: best placement, limit's faults", true, {}}};
  for (const Point& point : points) {
    report.table.rows.push_back({fmt::format("{} %", point.percent), fmt::format("{:.2f}×", point.slowdown),
                                 fmt::format("{:.2f}×", point.floor_slowdown), fmt::format("{:.0f}", point.ops_per_s),
                                 fmt::format("{:.2f} %", 100 * point.miss_ratio),
                                 fmt::format("{:.2f} %", 100 * point.best_miss_ratio)});
    plot.lines[0].points.emplace_back(point.percent, point.slowdown);
    plot.lines[1].points.emplace_back(point.percent, point.floor_slowdown);
  }
  report.table.rows.push_back(
      {"all local, no pager", "1.00×", "", fmt::format("{:.0f}", points[0].local_ops_per_s), "", ""});
  report.notes = {
      "slowdown: against the same loop on memory without a pager, run in turn; every read verifies the value's "
      "checksum, key and version; medians of the repeats",
      "floor: what no paging that cannot see the future betters: the most wanted pages of this very run stay here for "
      "ever (best misses), and each of the others costs a remote fault's limit",
      fault_limit_note()};
  report.lines = {std::move(plot)};
  report.wrong = wrong;
  return report;
}

}  // namespace

Result<Report> measure_zipf(const Options& options, std::string* problem) {
  const uint64_t bytes = options.region_or(128_MiB, 16_MiB);
  PlainMemory memory = HEC_TRY(explained(problem, PlainMemory::create(bytes)));
  ValueStore local_store(memory.data(), bytes);
  const ZipfNumbers numbers(local_store.keys(), kSkew);
  Shared shared{options, bytes, local_store, numbers, {}};
  std::vector<Point> points;
  for (unsigned percent : kLocalPercents) points.push_back(HEC_TRY(measure_point(shared, percent, problem)));
  return report_of(points, shared.limits, shared.wrong + local_store.wrong());
}

}  // namespace hecaton::bench
