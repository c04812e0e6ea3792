// bench churn: random writes over four times the budget. Every page that comes in pushes a dirty one out.
#include <fmt/format.h>

#include <random>

#include "bench/benchmarks.h"

namespace hecaton::bench {
namespace {

constexpr uint64_t kTimesBudget = 4;

struct Figures {
  std::vector<Quantiles> write;
  std::vector<double> pages_per_s;
  uint64_t writes = 0;
  PagerStats before, after;

  double of_each(uint64_t PagerStats::*counter, uint64_t total) const {
    return total == 0 ? 0 : static_cast<double>(after.*counter - before.*counter) / static_cast<double>(total);
  }
  uint64_t fetched() const { return after.faults_remote - before.faults_remote; }
  double miss_ratio() const { return of_each(&PagerStats::faults_remote, writes); }
  double write_amplification() const { return of_each(&PagerStats::written_back_pages, fetched()); }
  uint64_t stalled() const { return after.faults_stalled - before.faults_stalled; }
};

class Writer {
 public:
  explicit Writer(const PagedRegion& region) : region_(region), versions_(region.size() / kPageBytes) {
    for (uint64_t page = 0; page < versions_.size(); ++page) *word(page) = word_of(page);
  }

  // Writes the next version into random pages, after a look whether the last one is there.
  std::vector<int64_t> write(size_t rounds) {
    std::vector<int64_t> samples;
    samples.reserve(rounds);
    while (samples.size() < rounds) {
      const uint64_t page = random_() % versions_.size();
      const uint64_t expected = word_of(page);
      ++versions_[page];
      const uint64_t next = word_of(page);
      const int64_t start = monotonic_ns();
      const uint64_t found = std::exchange(*word(page), next);
      samples.push_back(monotonic_ns() - start);
      if (found != expected) ++wrong_;
    }
    return samples;
  }
  uint64_t wrong() const { return wrong_; }

 private:
  uint64_t word_of(uint64_t page) const { return page << 32 | (versions_[page] + 1); }
  uint64_t* word(uint64_t page) const {
    return reinterpret_cast<uint64_t*>(region_.data() + page * kPageBytes + page % 512 * 8);
  }

  const PagedRegion& region_;
  std::vector<uint32_t> versions_;
  std::mt19937_64 random_{1};
  uint64_t wrong_ = 0;
};

Report report_of(const Figures& figures, const FaultLimits& limits, uint64_t wrong) {
  const Quantiles write = median(figures.write);
  const double pages_per_s = median(figures.pages_per_s);
  const double limit = figures.miss_ratio() > 0 ? 1e6 / (figures.miss_ratio() * limits.sum_us()) : 0;
  Report report;
  report.name = "churn";
  report.title = fmt::format("random writes over {} times the budget", kTimesBudget);
  report.headline = std::to_string(figures.stalled());
  report.meaning = "faults had to wait for an eviction";
  report.figures = {
      {"pages_per_s", pages_per_s},
      {"write_amplification", figures.write_amplification()},
      {"p50_us", write.p50_us},
      {"p99_us", write.p99_us},
      {"faults_stalled", figures.stalled()},
      {"miss_ratio", figures.miss_ratio()},
      {"limit", {{"pages_per_s", limit}, {"uffd_us", limits.uffd().p50_us}, {"tcp_us", limits.tcp().p50_us}}},
      {"ratio", limit > 0 ? pages_per_s / limit : 0}};
  report.table = {{"", "pages/s", "p50 µs", "p99 µs", "written back / fetched", "waits for an eviction"},
                  {{"random writes", fmt::format("{:.0f}", pages_per_s), fmt::format("{:.1f}", write.p50_us),
                    fmt::format("{:.1f}", write.p99_us), fmt::format("{:.2f}", figures.write_amplification()),
                    std::to_string(figures.stalled())},
                   {"limit, reading only", fmt::format("{:.0f}", limit), "", "", "1.00", "0"}}};
  report.notes = {
      fmt::format("{:.0f} % of the writes found their page remote; the limit is what one thread could do if each of "
                  "those cost a remote fault's limit, and writing back cost nothing",
                  100 * figures.miss_ratio()),
      "written back / fetched: pages sent to donors for each page that came in; above 1, pages were cleaned too early",
      fault_limit_note()};
  report.bars = {{"Random writes, pages/s",
                  "one thread at a remote fault's limit",
                  {{"random writes", pages_per_s, limit, fmt::format("{:.0f} pages/s", pages_per_s)}}}};
  report.wrong = wrong;
  return report;
}

}  // namespace

Result<Report> measure_churn(const Options& options, std::string* problem) {
  const uint64_t local =
      options.local_bytes != 0 ? options.local_bytes : options.region_or(128_MiB, 32_MiB) / kTimesBudget;
  auto region = HEC_TRY(open_region(options, {local * kTimesBudget, local}, problem));
  options.say("filling memory");
  Writer writer(*region);
  const size_t rounds = options.rounds_or(20'000, 1000);
  (void)writer.write(rounds);  // warm
  Figures figures;
  FaultLimits limits;
  figures.before = region->stats();
  for (size_t repeat = 1; repeat <= options.repeats; ++repeat) {
    options.say(fmt::format("repeat {} of {}", repeat, options.repeats));
    HEC_TRY(limits.sample(options, problem));
    Stopwatch watch;
    std::vector<int64_t> samples = writer.write(rounds);
    figures.pages_per_s.push_back(static_cast<double>(rounds) / watch.seconds());
    figures.write.push_back(quantiles_of(samples));
    figures.writes += rounds;
  }
  figures.after = region->stats();
  return report_of(figures, limits, writer.wrong());
}

}  // namespace hecaton::bench
