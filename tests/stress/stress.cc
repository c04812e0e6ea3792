// Stress of paged memory over the C interface: several threads write at random over a region four times as large as its
// local memory, and each checks every byte it reads (workers.h).
//
//   stress [--seconds N=10] [--mib N=64] [--local-mib N=16] [--threads N=4] [--shards N=auto] [--seed N]
//          [--node URL]...
//          [--compress auto|on|off] [--tls on|off] [--seal yes]
//
// With --compress and --tls, which the C interface does not have, it goes past that to what is behind it.
//
// Exit status 0: every byte was right. Prints the region's figures at the end.
#include <hecaton/hecaton.h>
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "capi/paged_region.h"
#include "workers.h"

namespace {

using stress::kLine;
using stress::kPage;
using stress::Shared;
using stress::Worker;

struct Options {
  double seconds = 10;
  size_t mib = 64, local_mib = 16;
  unsigned threads = 4;
  unsigned shards = 0;
  uint64_t seed = 0;
  std::vector<std::string> nodes;
  std::string compress;
  bool tls = false;
  bool seal = false;
};

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (i + 1 == argc) return false;
    const char* value = argv[++i];
    if (name == "--seconds")
      options->seconds = atof(value);
    else if (name == "--mib")
      options->mib = strtoull(value, nullptr, 10);
    else if (name == "--local-mib")
      options->local_mib = strtoull(value, nullptr, 10);
    else if (name == "--threads")
      options->threads = static_cast<unsigned>(atoi(value));
    else if (name == "--shards")
      options->shards = static_cast<unsigned>(atoi(value));
    else if (name == "--seed")
      options->seed = strtoull(value, nullptr, 10);
    else if (name == "--compress")
      options->compress = value;
    else if (name == "--tls")
      options->tls = strcmp(value, "on") == 0;
    else if (name == "--seal")
      options->seal = value == std::string("yes");
    else if (name == "--node")
      options->nodes.push_back(value);
    else
      return false;
  }
  if (!options->compress.empty() && options->compress != "auto" && options->compress != "on" &&
      options->compress != "off") {
    return false;
  }
  return options->threads >= 1 && options->threads <= kPage / kLine && options->mib > 0;
}

// Paged memory, over the C interface or past it.
class Region {
 public:
  // Exit status 3: it cannot be had.
  explicit Region(const Options& options) {
    options.compress.empty() && !options.tls ? open_c(options) : open_inner(options);
  }
  ~Region() {
    if (region_) hecaton_close(region_);
  }
  std::byte* data() const { return data_; }
  std::string figures() const {
    if (inner_) return hecaton::stats_json(inner_->stats(), "memory", "");
    std::vector<char> text(1 << 16);
    hecaton_stats_json(region_, text.data(), text.size());
    return text.data();
  }
  // None known over the C interface.
  uint64_t compressed_pages() const { return inner_ ? inner_->stats().compressed_pages : 0; }

 private:
  void open_c(const Options& options) {
    std::vector<const char*> nodes;
    for (const std::string& node : options.nodes) nodes.push_back(node.c_str());
    nodes.push_back(nullptr);
    hecaton_config config{sizeof config,           options.mib << 20,
                          options.local_mib << 20, options.nodes.empty() ? nullptr : nodes.data(),
                          options.shards,          options.seal ? uint64_t{HECATON_SEAL} : 0};
    void* address = nullptr;
    if (int error = hecaton_open(&config, &region_, &address)) fail("hecaton_open", hecaton_strerror(error));
    data_ = static_cast<std::byte*>(address);
  }
  void open_inner(const Options& options) {
    hecaton::PagedRegionConfig config;
    config.bytes = options.mib << 20;
    config.local_bytes = options.local_mib << 20;
    config.shards = options.shards;
    for (const std::string& node : options.nodes) config.nodes.push_back(hecaton::parse_node_url(node).value());
    config.seal = options.seal;
    config.insecure = true;  // its pages are no secret
    config.embedded_tls = options.tls;
    if (options.compress == "on") config.compression = hecaton::Compression::kOn;
    if (options.compress == "off") config.compression = hecaton::Compression::kOff;
    std::string problem;
    auto opened = hecaton::PagedRegion::open(std::move(config), &problem);
    if (!opened.ok()) fail("a paged region", problem.c_str());
    inner_ = std::move(opened).value();
    data_ = inner_->data();
  }
  [[noreturn]] static void fail(const char* what, const char* why) {
    fprintf(stderr, "stress: %s: %s\n", what, why);
    exit(3);
  }

  hecaton_region* region_ = nullptr;
  std::unique_ptr<hecaton::PagedRegion> inner_;
  std::byte* data_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, &options)) {
    fprintf(stderr,
            "usage: stress [--seconds N] [--mib N] [--local-mib N] [--threads 1..64] [--shards 1..16] [--seed N] "
            "[--node URL]... [--compress auto|on|off] [--tls on|off] [--seal yes]\n");
    return 2;
  }
  if (options.seed == 0) options.seed = std::random_device()();
  printf("stress: seed %llu\n", static_cast<unsigned long long>(options.seed));
  Region region(options);
  Shared shared;
  shared.memory = region.data();
  shared.pages = (options.mib << 20) / kPage;
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < options.threads; ++id) {
    threads.emplace_back([&shared, &options, id] { Worker(shared, id, options.seed + id).run(); });
  }
  auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(options.seconds);
  while (std::chrono::steady_clock::now() < end && shared.wrong.load() == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  shared.stop.store(true);
  for (std::thread& thread : threads) thread.join();
  printf("%s\n", region.figures().c_str());
  if (options.compress == "on" && region.compressed_pages() == 0) {
    fprintf(stderr, "stress: no page was compressed\n");
    return 1;
  }
  printf("stress: %llu operations, %llu wrong\n", static_cast<unsigned long long>(shared.operations.load()),
         static_cast<unsigned long long>(shared.wrong.load()));
  return shared.wrong.load() == 0 ? 0 : 1;
}
