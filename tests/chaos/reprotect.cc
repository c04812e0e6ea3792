// What the loss of a donor costs: paged memory mirrored over three hecatond processes, one of which is killed; measures
// the time and the bandwidth of bringing protection back, and the latency of remote faults before and meanwhile.
//
//   reprotect --hecatond PROGRAM [--mib N=1024] [--seconds N=5]
//
// Prints JSON. Exit status 0: nothing was lost.
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "base/clock.h"
#include "capi/paged_region.h"
#include "donor_process.h"

namespace {

using chaos::Donor;
using chaos::quantile;

struct Options {
  std::string hecatond;
  size_t mib = 1024;
  double seconds = 5;
};

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--hecatond")
      options->hecatond = argv[i + 1];
    else if (name == "--mib")
      options->mib = strtoull(argv[i + 1], nullptr, 10);
    else if (name == "--seconds")
      options->seconds = atof(argv[i + 1]);
    else
      return false;
  }
  return argc % 2 == 1 && !options->hecatond.empty();
}

std::unique_ptr<hecaton::PagedRegion> open_region(const Options& options,
                                                  std::span<const std::unique_ptr<Donor>> donors) {
  hecaton::PagedRegionConfig config;
  config.bytes = options.mib << 20;
  config.local_bytes = config.bytes / 16;
  config.protection = hecaton::Protection::kMirror;
  config.prefetch_pages = 0;
  for (auto& donor : donors) config.nodes.push_back(hecaton::parse_node_url(donor->address()).value());
  std::string problem;
  auto region = hecaton::PagedRegion::open(std::move(config), &problem);
  if (!region.ok()) {
    fprintf(stderr, "reprotect: %s\n", problem.c_str());
    exit(3);
  }
  return std::move(region).value();
}

// Microseconds of reads of pages at random, most of which are remote, until `done`.
template <typename Done>
std::vector<double> read_at_random(hecaton::PagedRegion& region, std::mt19937_64& random, Done done) {
  std::vector<double> us;
  while (!done()) {
    for (int i = 0; i < 200; ++i) {
      const volatile std::byte* byte =
          region.data() + random() % (region.size() / hecaton::kPageBytes) * hecaton::kPageBytes;
      const int64_t began = hecaton::monotonic_ns();
      (void)*byte;
      const double took = static_cast<double>(hecaton::monotonic_ns() - began) / 1e3;
      if (took > 2) us.push_back(took);  // the others were here
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
  return us;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, &options)) {
    fprintf(stderr, "usage: reprotect --hecatond PROGRAM [--mib N] [--seconds N]\n");
    return 2;
  }
  std::vector<std::unique_ptr<Donor>> donors;
  for (int i = 0; i < 3; ++i) {
    donors.push_back(std::make_unique<Donor>(options.hecatond, std::to_string(options.mib + 16) + "M"));
  }
  auto region = open_region(options, donors);
  std::mt19937_64 random(1);
  for (size_t at = 0; at < region->size(); at += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(region->data() + at, &word, sizeof word);
  }
  const int64_t began = hecaton::monotonic_ns();
  const auto before = read_at_random(
      *region, random, [&] { return static_cast<double>(hecaton::monotonic_ns() - began) / 1e9 > options.seconds; });
  const auto whole = region->stats();
  const int64_t killed = hecaton::monotonic_ns();
  donors[0]->kill();
  bool noticed = false;
  const auto meanwhile = read_at_random(*region, random, [&] {
    const auto stats = region->stats();
    // All of it may be over between two looks.
    noticed = noticed || stats.exposed_bytes > 0 || stats.reprotected_bytes > whole.reprotected_bytes;
    return noticed && stats.exposed_bytes == 0;
  });
  const double seconds = static_cast<double>(hecaton::monotonic_ns() - killed) / 1e9;
  const auto stats = region->stats();
  const double bytes = static_cast<double>(stats.reprotected_bytes);
  nlohmann::ordered_json json{
      {"placed_at_lost_donor_bytes", whole.nodes[0].bytes},
      {"reprotected_bytes", stats.reprotected_bytes},
      {"seconds", seconds},
      {"mb_per_second", bytes / seconds / 1e6},
      {"seconds_per_gib", seconds / (bytes / (1 << 30))},
      {"fault_us_before", {{"p50", quantile(before, 0.5)}, {"p99", quantile(before, 0.99)}}},
      {"fault_us_meanwhile", {{"p50", quantile(meanwhile, 0.5)}, {"p99", quantile(meanwhile, 0.99)}}},
      {"p99_ratio", quantile(meanwhile, 0.99) / quantile(before, 0.99)},
      {"longest_ms", quantile(meanwhile, 1) / 1000},
      {"lost_pages", stats.lost_pages}};
  printf("%s\n", json.dump(2).c_str());
  return stats.lost_pages == 0 ? 0 : 1;
}
