// Stress of paged memory over the C interface: several threads write at random (and some read in sequence, so that
// prefetch runs) over a region four times as large as its local memory, and each checks every byte it reads against
// what it wrote last. A page's threads own different cache lines of it, so that every eviction of a page races with
// writers.
//
//   stress [--seconds N=10] [--mib N=64] [--local-mib N=16] [--threads N=4] [--shards N=auto] [--seed N]
//          [--node URL]...
//          [--compress auto|on|off]
//
// With --compress, which the C interface does not have, it goes past that to what is behind it.
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

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kLine = 64;

struct Options {
  double seconds = 10;
  size_t mib = 64, local_mib = 16;
  unsigned threads = 4;
  unsigned shards = 0;
  uint64_t seed = 0;
  std::vector<std::string> nodes;
  std::string compress;
};

struct Shared {
  std::byte* memory;
  size_t pages;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> operations{0}, wrong{0};
};

// What thread `id` wrote to its line of `page` at its `count`-th write: all eight words differ by place and time.
uint64_t pattern(uint64_t page, uint64_t id, uint64_t count, uint64_t word) {
  if (count == 0) return 0;
  uint64_t x = (page << 32 ^ id << 56 ^ count << 8 ^ word) * 0x9e3779b97f4a7c15ull;
  return x ^ x >> 29;
}

class Worker {
 public:
  Worker(Shared& shared, unsigned id, uint64_t seed) : shared_(shared), id_(id), random_(seed), counts_(shared.pages) {}

  void run() {
    while (!shared_.stop.load()) {
      switch (random_() % 16) {
        case 0:
          scan();
          break;
        case 1:
          hammer();
          break;
        default:
          touch(random_() % shared_.pages, random_() % 3 != 0);
          break;
      }
    }
    for (size_t page = 0; page < shared_.pages; ++page) touch(page, false);
  }

 private:
  volatile uint64_t* line_of(size_t page) {
    return reinterpret_cast<volatile uint64_t*>(shared_.memory + page * kPage + id_ * kLine);
  }

  void touch(size_t page, bool write) {
    volatile uint64_t* line = line_of(page);
    for (uint64_t word = 0; word < 8; ++word) {
      if (line[word] != pattern(page, id_, counts_[page], word)) {
        fprintf(stderr, "stress: WRONG page %zu thread %u word %llu: read %llx, wrote %llx (write %u)\n", page, id_,
                static_cast<unsigned long long>(word), static_cast<unsigned long long>(line[word]),
                static_cast<unsigned long long>(pattern(page, id_, counts_[page], word)), counts_[page]);
        shared_.wrong.fetch_add(1);
        break;
      }
    }
    if (write) {
      ++counts_[page];
      for (uint64_t word = 0; word < 8; ++word) line[word] = pattern(page, id_, counts_[page], word);
    }
    shared_.operations.fetch_add(1, std::memory_order_relaxed);
  }

  void scan() {
    size_t first = random_() % shared_.pages;
    for (size_t i = 0; i < 200 && first + i < shared_.pages && !shared_.stop.load(); ++i) touch(first + i, false);
  }

  // Many writes to a few pages, so that some land while the page is leaving.
  void hammer() {
    size_t first = random_() % shared_.pages;
    for (size_t i = 0; i < 400 && !shared_.stop.load(); ++i) touch((first + i % 4) % shared_.pages, true);
  }

  Shared& shared_;
  const unsigned id_;
  std::mt19937_64 random_;
  std::vector<uint32_t> counts_;
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
  explicit Region(const Options& options) { options.compress.empty() ? open_c(options) : open_inner(options); }
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
    hecaton_config config{sizeof config, options.mib << 20, options.local_mib << 20,
                          options.nodes.empty() ? nullptr : nodes.data(), options.shards};
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
    config.insecure = true;  // its pages are no secret
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
            "[--node URL]... [--compress auto|on|off]\n");
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
