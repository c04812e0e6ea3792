// Donors are killed under a load that verifies every byte: paged memory in this process, mirrored over three hecatond
// processes, of which one at a time is killed (SIGKILL), or stopped for a while (SIGSTOP, as a hung machine or a cut
// link looks), and started anew. The next one fails only once all is protected again.
//
//   donor_chaos --hecatond PROGRAM [--kills N=20] [--mib N=48] [--local-mib N=8] [--threads N=3] [--seed N] [--json]
//               [--seal]
//
// Measures how long a thread had to wait for memory at most after each failure, and how long protection took to come
// back. Exit status 0: no byte was wrong, none was lost, and with --seal every page opened.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "../stress/workers.h"
#include "base/clock.h"
#include "capi/paged_region.h"
#include "donor_process.h"

namespace {

using namespace std::chrono_literals;
using chaos::Donor;
using chaos::quantile;

struct Options {
  std::string hecatond;
  int kills = 20;
  size_t mib = 48, local_mib = 8;
  unsigned threads = 3;
  uint64_t seed = 0;
  bool json = false;
  bool seal = false;
};

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--json" || name == "--seal") {
      (name == "--json" ? options->json : options->seal) = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const char* value = argv[++i];
    if (name == "--hecatond")
      options->hecatond = value;
    else if (name == "--kills")
      options->kills = atoi(value);
    else if (name == "--mib")
      options->mib = strtoull(value, nullptr, 10);
    else if (name == "--local-mib")
      options->local_mib = strtoull(value, nullptr, 10);
    else if (name == "--threads")
      options->threads = static_cast<unsigned>(atoi(value));
    else if (name == "--seed")
      options->seed = strtoull(value, nullptr, 10);
    else
      return false;
  }
  return !options->hecatond.empty() && options->threads > 0;
}

double ms(int64_t ns) {
  return static_cast<double>(ns) / 1e6;
}

class Chaos {
 public:
  explicit Chaos(const Options& options) : options_(options), random_(options.seed) {
    const std::string size = std::to_string(options.mib + 8) + "M";
    for (int i = 0; i < 3; ++i) donors_.push_back(std::make_unique<Donor>(options.hecatond, size));
    hecaton::PagedRegionConfig config;
    config.bytes = options.mib << 20;
    config.local_bytes = options.local_mib << 20;
    config.protection = hecaton::Protection::kMirror;
    config.seal = options.seal;
    for (auto& donor : donors_) config.nodes.push_back(hecaton::parse_node_url(donor->address()).value());
    config.on_notice = [this](const std::string& text) {
      if (!options_.json) fprintf(stderr, "  %s\n", text.c_str());
    };
    config.on_loss = [](const hecaton::LossReport& loss) {
      for (pid_t donor : Donor::running()) ::kill(donor, SIGKILL);
      fprintf(stderr, "donor_chaos: LOST %llu pages: %s\n", static_cast<unsigned long long>(loss.pages),
              loss.reason.c_str());
      _exit(1);
    };
    std::string problem;
    auto opened = hecaton::PagedRegion::open(std::move(config), &problem);
    if (!opened.ok()) {
      fprintf(stderr, "donor_chaos: %s\n", problem.c_str());
      exit(3);
    }
    region_ = std::move(opened).value();
    shared_.memory = region_->data();
    shared_.pages = (options.mib << 20) / stress::kPage;
  }

  int run() {
    std::vector<std::thread> threads;
    for (unsigned id = 0; id < options_.threads; ++id) {
      threads.emplace_back([this, id] { stress::Worker(shared_, id, options_.seed + id).run(); });
    }
    std::thread probe([this] { watch_pauses(); });
    await_protection();
    int failures = 0;
    while (failures < options_.kills && shared_.wrong.load() == 0) {
      fail_one(failures);
      ++failures;
    }
    const auto before = region_->stats();
    shared_.stop.store(true);
    for (std::thread& thread : threads) thread.join();
    probe.join();
    report(failures, before);
    return shared_.wrong.load() == 0 && before.bad_seals == 0 ? 0 : 1;
  }

 private:
  void fail_one(int number) {
    Donor& donor = *donors_[random_() % donors_.size()];
    const bool hang = number % 4 == 3;
    worst_ns_.store(0);
    const int64_t began = hecaton::monotonic_ns();
    if (hang) {
      donor.stop();
      std::this_thread::sleep_for(std::chrono::milliseconds(100 + random_() % 1500));
      donor.go_on();
    } else {
      donor.kill();
      std::this_thread::sleep_for(std::chrono::milliseconds(random_() % 300));
      await_notice();
      await_protection();
      reprotected_ms_.push_back(ms(hecaton::monotonic_ns() - began));
      donor.restart();
    }
    await_all();
    (hang ? hang_pauses_ms_ : pauses_ms_).push_back(ms(worst_ns_.load()));
  }

  // Looks until it is so, or something has gone wrong.
  template <typename Condition>
  void await(Condition condition) {
    while (!condition(region_->stats()) && shared_.wrong.load() == 0) std::this_thread::sleep_for(5ms);
  }
  static size_t live_of(const hecaton::PagerStats& stats) {
    return static_cast<size_t>(std::count_if(stats.nodes.begin(), stats.nodes.end(), [](const auto& node) {
      return node.state == "live" || node.state == "full";
    }));
  }
  // A donor was killed. As long as that is not known, what it had counts as protected.
  void await_notice() {
    await([this](const auto& stats) { return live_of(stats) < donors_.size(); });
  }
  void await_protection() {
    await([](const auto& stats) { return stats.exposed_bytes == 0; });
  }
  // At one and the same moment all three donors are there, and everything is protected.
  void await_all() {
    await([this](const auto& stats) { return live_of(stats) == donors_.size() && stats.exposed_bytes == 0; });
  }

  // The longest time that a single access of this thread took.
  void watch_pauses() {
    std::mt19937_64 random(options_.seed ^ 0x55);
    while (!shared_.stop.load()) {
      const size_t page = random() % shared_.pages;
      const int64_t began = hecaton::monotonic_ns();
      volatile std::byte* byte = shared_.memory + page * stress::kPage + stress::kPage - 1;
      (void)*byte;
      const int64_t took = hecaton::monotonic_ns() - began;
      if (took > worst_ns_.load()) worst_ns_.store(took);
    }
  }

  void report(int failures, const hecaton::PagerStats& stats) const {
    nlohmann::ordered_json json{{"failures", failures},
                                {"operations", shared_.operations.load()},
                                {"wrong", shared_.wrong.load()},
                                {"pause_ms_p50", quantile(pauses_ms_, 0.5)},
                                {"pause_ms_p99", quantile(pauses_ms_, 0.99)},
                                {"pause_ms_max", quantile(pauses_ms_, 1)},
                                {"hang_pause_ms_p50", quantile(hang_pauses_ms_, 0.5)},
                                {"hang_pause_ms_max", quantile(hang_pauses_ms_, 1)},
                                {"reprotect_ms_p50", quantile(reprotected_ms_, 0.5)},
                                {"reprotect_ms_max", quantile(reprotected_ms_, 1)},
                                {"reprotected_bytes", stats.reprotected_bytes},
                                {"bad_seals", stats.bad_seals},
                                {"hedged_reads", stats.hedged_reads},
                                {"failed_over_reads", stats.failed_over_reads},
                                {"seed", options_.seed}};
    printf("%s\n", json.dump(options_.json ? -1 : 2).c_str());
  }

  const Options options_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Donor>> donors_;
  std::unique_ptr<hecaton::PagedRegion> region_;
  stress::Shared shared_;
  std::atomic<int64_t> worst_ns_{0};
  std::vector<double> pauses_ms_, hang_pauses_ms_, reprotected_ms_;
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, &options)) {
    fprintf(stderr,
            "usage: donor_chaos --hecatond PROGRAM [--kills N] [--mib N] [--local-mib N] [--threads N] [--seed N] "
            "[--json] [--seal]\n");
    return 2;
  }
  if (options.seed == 0) options.seed = std::random_device()();
  return Chaos(options).run();
}
