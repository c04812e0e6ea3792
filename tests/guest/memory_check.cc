// Fills memory with known bytes and proves that they are still there, whatever paged them out in between.
//
//   memory_check [--mib N=300] [--threads N=1] [--seed N=1] [--rounds N=1] [--passes LIST] [--forever] [--corrupt PAGE]
//
// The fill comes first and a verification of everything comes last, always. LIST, between them, run --rounds times:
//   sequential   read every page in order          random    read every page in a shuffled order
//   rewrite      read, check and rewrite, shuffled discard   give a third of the pages back, see zeros, refill
// --forever repeats the rounds until something else ends the guest. --corrupt PAGE flips one bit before the last
// verification, to show that it would be noticed.
//
// Output: GUEST-FILLED N MiB, GUEST-PROGRESS ... after each pass, and as the last line either
// GUEST-VERIFIED N MiB (exit 0) or GUEST-WRONG page ... (exit 1).
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "page_pattern.h"

namespace {

using guest::kPageBytes;
using guest::PageName;

struct Options {
  uint64_t mib = 300;
  unsigned threads = 1;
  uint64_t seed = 1;
  unsigned rounds = 1;
  std::string passes = "sequential,random,rewrite,discard";
  bool forever = false;
  uint64_t corrupt_page = 0;  // 0: none
};

[[noreturn]] void usage(const std::string& problem) {
  std::printf("memory_check: %s\n", problem.c_str());
  std::exit(2);
}

uint64_t parse_number(const char* name, const char* text) {
  char* end = nullptr;
  errno = 0;
  uint64_t value = std::strtoull(text, &end, 10);
  if (errno != 0 || end == text || *end != 0 || value == 0) {
    usage(std::string(name) + " wants a number from 1 on, not '" + text + "'");
  }
  return value;
}

Options parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (name == "--forever") {
      options.forever = true;
      continue;
    }
    if (i + 1 == argc) usage("unknown or unfinished option '" + name + "'");
    const char* value = argv[++i];
    if (name == "--mib") {
      options.mib = parse_number("--mib", value);
    } else if (name == "--threads") {
      options.threads = static_cast<unsigned>(parse_number("--threads", value));
    } else if (name == "--seed") {
      options.seed = parse_number("--seed", value);
    } else if (name == "--rounds") {
      options.rounds = static_cast<unsigned>(parse_number("--rounds", value));
    } else if (name == "--corrupt") {
      options.corrupt_page = parse_number("--corrupt", value);
    } else if (name == "--passes") {
      options.passes = value;
    } else {
      usage("unknown option '" + name + "'");
    }
  }
  return options;
}

// The memory under test. Threads work on disjoint slices of pages, so nothing here needs a lock; versions_ is guest
// memory too and gets paged like the rest.
class Arena {
 public:
  Arena(uint64_t pages, uint64_t seed) : seed_(seed), versions_(pages, 0) {
    void* at = mmap(nullptr, pages * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) usage(std::string("the guest has too little memory: ") + std::strerror(errno));
    base_ = static_cast<uint64_t*>(at);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  uint64_t pages() const { return versions_.size(); }

  void check(uint64_t page, const char* pass) const {
    PageName name{seed_, page, versions_[page]};
    if (guest::holds(at(page), name)) return;
    report_and_exit(name, pass);
  }

  void rewrite(uint64_t page) {
    uint8_t& version = versions_[page];
    version = version == 255 ? 1 : version + 1;
    guest::fill_page(at(page), {seed_, page, version});
  }

  void flip_a_bit(uint64_t page) { at(page)[guest::kPageWords / 2] ^= 1; }

  void discard(uint64_t page) {
    if (madvise(at(page), kPageBytes, MADV_DONTNEED) != 0) usage(std::string("madvise: ") + std::strerror(errno));
    versions_[page] = 0;
  }

 private:
  uint64_t* at(uint64_t page) const { return base_ + page * guest::kPageWords; }

  [[noreturn]] void report_and_exit(PageName name, const char* pass) const {
    std::string found = guest::describe_content(at(name.page), name, pages());
    std::printf("GUEST-WRONG page %llu of %llu in pass %s: expected version %u, found %s\n",
                static_cast<unsigned long long>(name.page), static_cast<unsigned long long>(pages()), pass,
                name.version, found.c_str());
    std::fflush(stdout);
    std::_Exit(1);
  }

  uint64_t* base_ = nullptr;
  uint64_t seed_;
  std::vector<uint8_t> versions_;
};

struct Slice {
  uint64_t first;
  uint64_t count;
};

// Visits every page of the slice once, in an order that no readahead foresees: a full-period walk modulo the count.
template <typename Visit>
void visit_shuffled(Slice slice, uint64_t salt, Visit visit) {
  uint64_t step = guest::mix(salt) % slice.count;
  while (std::gcd(step, slice.count) != 1) step = (step + 1) % slice.count;
  uint64_t at = guest::mix(salt + 1) % slice.count;
  for (uint64_t i = 0; i < slice.count; ++i) {
    visit(slice.first + at);
    at = (at + step) % slice.count;
  }
}

void fill(Arena& arena, Slice slice, uint64_t) {
  for (uint64_t page = slice.first; page < slice.first + slice.count; ++page) arena.rewrite(page);
}

void read_sequential(Arena& arena, Slice slice, uint64_t) {
  for (uint64_t page = slice.first; page < slice.first + slice.count; ++page) arena.check(page, "sequential");
}

void read_random(Arena& arena, Slice slice, uint64_t salt) {
  visit_shuffled(slice, salt, [&](uint64_t page) { arena.check(page, "random"); });
}

void rewrite_random(Arena& arena, Slice slice, uint64_t salt) {
  visit_shuffled(slice, salt, [&](uint64_t page) {
    arena.check(page, "rewrite");
    arena.rewrite(page);
  });
}

void discard_and_refill(Arena& arena, Slice slice, uint64_t salt) {
  uint64_t first = slice.first + salt % 3;
  uint64_t end = slice.first + slice.count;
  for (uint64_t page = first; page < end; page += 3) arena.discard(page);
  for (uint64_t page = first; page < end; page += 3) arena.check(page, "discard");
  for (uint64_t page = first; page < end; page += 3) arena.rewrite(page);
}

struct Pass {
  const char* name;
  void (*run)(Arena&, Slice, uint64_t salt);
};

constexpr Pass kPasses[] = {{"fill", fill},
                            {"sequential", read_sequential},
                            {"random", read_random},
                            {"rewrite", rewrite_random},
                            {"discard", discard_and_refill}};

const Pass& find_pass(const std::string& name) {
  for (const Pass& pass : kPasses) {
    if (name == pass.name) return pass;
  }
  usage("no pass is named '" + name + "'");
}

std::vector<Pass> parse_passes(const std::string& list) {
  std::vector<Pass> passes;
  size_t at = 0;
  while (at <= list.size()) {
    size_t comma = std::min(list.find(',', at), list.size());
    passes.push_back(find_pass(list.substr(at, comma - at)));
    at = comma + 1;
  }
  return passes;
}

void run_pass(Arena& arena, const Pass& pass, unsigned thread_count, uint64_t salt) {
  auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  uint64_t share = arena.pages() / thread_count;
  for (unsigned i = 0; i < thread_count; ++i) {
    uint64_t first = i * share;
    uint64_t count = i + 1 == thread_count ? arena.pages() - first : share;
    threads.emplace_back([&arena, &pass, first, count, salt, i] { pass.run(arena, {first, count}, salt + i); });
  }
  for (std::thread& thread : threads) thread.join();
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("GUEST-PROGRESS %s %.2f s\n", pass.name, took.count());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  Options options = parse_options(argc, argv);
  std::vector<Pass> passes = parse_passes(options.passes);
  Arena arena(options.mib * 1024 * 1024 / kPageBytes, options.seed);
  if (options.threads > arena.pages()) usage("more threads than pages");
  if (options.corrupt_page >= arena.pages()) usage("--corrupt: no such page");

  run_pass(arena, find_pass("fill"), options.threads, options.seed);
  std::printf("GUEST-FILLED %llu MiB\n", static_cast<unsigned long long>(options.mib));
  std::fflush(stdout);
  for (unsigned round = 0; options.forever || round < options.rounds; ++round) {
    for (const Pass& pass : passes) run_pass(arena, pass, options.threads, options.seed + round * 1000);
  }
  if (options.corrupt_page != 0) arena.flip_a_bit(options.corrupt_page);
  run_pass(arena, find_pass("sequential"), options.threads, options.seed);
  std::printf("GUEST-VERIFIED %llu MiB\n", static_cast<unsigned long long>(options.mib));
  return 0;
}
