// bench scan: one thread reads a remote region in order, in strides and backwards.
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <optional>

#include "bench/benchmarks.h"

namespace hecaton::bench {
namespace {

struct Pattern {
  const char* name;
  const char* words;
  uint64_t stride;  // pages
  bool backward;
};
constexpr Pattern kPatterns[] = {{"forward", "in order", 1, false},
                                 {"stride2", "every 2nd page", 2, false},
                                 {"stride3", "every 3rd page", 3, false},
                                 {"stride16", "every 16th page", 16, false},
                                 {"backward", "backwards", 1, true}};
constexpr size_t kLineBytes = 64;
constexpr size_t kLines = kPageBytes / kLineBytes;

struct Figures {
  std::vector<double> gbps;
  uint64_t issued = 0, used = 0, late = 0;
};

// Faults that found the page already on its way, fetched ahead but too late: each other kind of fault has a counter.
uint64_t faults_on_fetched(const PagerStats& s) {
  const uint64_t others = s.faults_zero + s.faults_remote + s.faults_minor + s.faults_protect + s.faults_late;
  return s.faults > others ? s.faults - others : 0;
}

class Scanner {
 public:
  explicit Scanner(const PagedRegion& region) : region_(region), pages_(region.size() / kPageBytes) {}

  // Every line of memory of every page gets a word that tells where it is.
  void fill() const {
    for (uint64_t page = 0; page < pages_; ++page) {
      for (size_t line = 0; line < kLines; ++line) *word(page, line) = page * kMark + line + 1;
    }
  }

  // One pass over all pages; GB of those that were remote, by second. Pages that were here at the start are not
  // counted.
  double pass(const Pattern& pattern) {
    const uint64_t remote = pages_ - resident_pages();
    Stopwatch watch;
    for (uint64_t first = 0; first < pattern.stride; ++first) {
      for (uint64_t page = first; page < pages_; page += pattern.stride) {
        read(pattern.backward ? pages_ - 1 - page : page);
      }
    }
    return static_cast<double>(remote * kPageBytes) / 1e9 / watch.seconds();
  }
  uint64_t wrong() const { return wrong_; }

 private:
  static constexpr uint64_t kMark = 0x9e3779b97f4a7c15ull;

  volatile uint64_t* word(uint64_t page, size_t line) const {
    return reinterpret_cast<volatile uint64_t*>(region_.data() + page * kPageBytes + line * kLineBytes);
  }
  void read(uint64_t page) {
    uint64_t sum = 0;
    for (size_t line = 0; line < kLines; ++line) sum += *word(page, line);
    if (sum != kLines * page * kMark + kLines * (kLines + 1) / 2) ++wrong_;
  }
  uint64_t resident_pages() const {
    std::vector<unsigned char> resident(pages_);
    mincore(region_.data(), region_.size(), resident.data());
    return static_cast<uint64_t>(std::count_if(resident.begin(), resident.end(), [](auto r) { return (r & 1) != 0; }));
  }

  const PagedRegion& region_;
  const uint64_t pages_;
  uint64_t wrong_ = 0;
};

nlohmann::ordered_json json_of(const Figures& figures, double tcp_gbps) {
  const double gbps = median(figures.gbps);
  return {{"gbps", gbps},
          {"tcp_gbps", tcp_gbps},
          {"ratio", gbps / tcp_gbps},
          {"prefetch", {{"issued", figures.issued}, {"used", figures.used}, {"late", figures.late}}}};
}

// Forward, over TLS; 0: not measured.
void add_tls(Report& report, double gbps, double plain_gbps, double tcp_gbps) {
  if (gbps == 0) return;
  report.figures["tls"] = {{"gbps", gbps}, {"of_plain", gbps / plain_gbps}};
  report.table.rows.push_back(
      {"in order, over TLS", fmt::format("{:.2f}", gbps), fmt::format("{:.2f}", gbps / tcp_gbps), "", "", ""});
}

Report report_of(const std::vector<Figures>& figures, double tcp_gbps, size_t tcp_buffer, double tls_gbps,
                 uint64_t wrong) {
  Report report;
  report.name = "scan";
  report.title = "one thread reads remote memory";
  report.headline = fmt::format("{:.2f}×", median(figures[0].gbps) / tcp_gbps);
  report.meaning = "the throughput of raw TCP, forward";
  report.figures = json_of(figures[0], tcp_gbps);
  report.table.columns = {"", "GB/s", "of TCP", "prefetched", "used", "late"};
  BarPlot plot{"Reading remote memory, GB/s", "raw TCP stream", {}};
  for (size_t i = 0; i < figures.size(); ++i) {
    const Pattern& pattern = kPatterns[i];
    const double gbps = median(figures[i].gbps);
    report.figures["patterns"][pattern.name] = json_of(figures[i], tcp_gbps);
    report.table.rows.push_back({pattern.words, fmt::format("{:.2f}", gbps), fmt::format("{:.2f}", gbps / tcp_gbps),
                                 std::to_string(figures[i].issued), std::to_string(figures[i].used),
                                 std::to_string(figures[i].late)});
    plot.bars.push_back({pattern.words, gbps, tcp_gbps, fmt::format("{:.2f} GB/s", gbps)});
  }
  add_tls(report, tls_gbps, median(figures[0].gbps), tcp_gbps);
  report.table.rows.push_back({"limit: raw TCP stream", fmt::format("{:.2f}", tcp_gbps), "1.00", "", "", ""});
  report.notes = {
      "every line of every page is read and checked; a stride's pass goes on with the pages between until all are "
      "read; "
      "pages that were here before a pass do not count; medians of the repeats",
      "prefetched, used, late: pages fetched ahead, those of them that were then used, and faults on pages already on "
      "their way",
      fmt::format("{} ({} KiB this time)", kStreamLimitNote, tcp_buffer / 1024)};
  report.bars = {std::move(plot)};
  report.wrong = wrong;
  return report;
}

struct Tls {
  std::unique_ptr<PagedRegion> region;
  std::optional<Scanner> scanner;
  std::vector<double> gbps;

  Result<void> open(const Options& options, RegionShape shape, std::string* problem) {
    if (!options.tls) return {};
    shape.embedded_tls = true;
    region = HEC_TRY(open_region(options, shape, problem));
    scanner.emplace(*region);
    scanner->fill();
    (void)scanner->pass(kPatterns[0]);  // warm
    return {};
  }
  void sample() {
    if (scanner) gbps.push_back(scanner->pass(kPatterns[0]));
  }
  uint64_t wrong() const { return scanner ? scanner->wrong() : 0; }
};

void sample(Scanner& scanner, const PagedRegion& region, const Pattern& pattern, Figures& figures) {
  const PagerStats before = region.stats();
  figures.gbps.push_back(scanner.pass(pattern));
  const PagerStats after = region.stats();
  figures.issued += after.prefetched_pages - before.prefetched_pages;
  figures.used += after.prefetch_used_pages - before.prefetch_used_pages;
  figures.late += faults_on_fetched(after) - faults_on_fetched(before);
}

}  // namespace

Result<Report> measure_scan(const Options& options, std::string* problem) {
  const RegionShape shape = HEC_TRY(mostly_remote(options, 256_MiB, 32_MiB, problem));
  auto region = HEC_TRY(open_region(options, shape, problem));
  Scanner scanner(*region);
  options.say("filling memory");
  scanner.fill();
  Tls tls;
  HEC_TRY(tls.open(options, shape, problem));
  std::vector<Figures> figures(std::size(kPatterns));
  StreamLimit limit;
  for (size_t repeat = 1; repeat <= options.repeats; ++repeat) {
    options.say(fmt::format("repeat {} of {}", repeat, options.repeats));
    HEC_TRY(limit.sample(options, problem));
    for (size_t i = 0; i < std::size(kPatterns); ++i) {
      if (repeat == 1) (void)scanner.pass(kPatterns[i]);  // warm
      sample(scanner, *region, kPatterns[i], figures[i]);
    }
    tls.sample();
  }
  return report_of(figures, limit.gbps(), limit.buffer_bytes(), median(tls.gbps), scanner.wrong() + tls.wrong());
}

}  // namespace hecaton::bench
