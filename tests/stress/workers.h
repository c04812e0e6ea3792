// Threads that write paged memory at random (and read some of it in sequence, so that prefetch runs), and check every
// byte they read against what they wrote last. A page's threads own different cache lines of it, so that every eviction
// of a page races with writers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

namespace stress {

constexpr size_t kPage = 4096;
constexpr size_t kLine = 64;

struct Shared {
  std::byte* memory;
  size_t pages;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> operations{0}, wrong{0};
};

// What thread `id` wrote to its line of `page` at its `count`-th write: all eight words differ by place and time.
inline uint64_t pattern(uint64_t page, uint64_t id, uint64_t count, uint64_t word) {
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

}  // namespace stress
