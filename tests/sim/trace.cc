#include "trace.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/check.h"

namespace hecaton::sim {
namespace {

constexpr uint64_t kRegionPages = 65536;  // 256 MiB
constexpr size_t kAccesses = 1'200'000;

class Maker {
 public:
  Maker(Trace& trace, uint64_t seed, uint64_t scale) : trace_(trace), random_(seed), accesses_(kAccesses / scale) {
    trace_.pages = kRegionPages / scale;
  }

  void local(double share) { trace_.budget = static_cast<uint64_t>(static_cast<double>(trace_.pages) * share); }
  uint64_t pages() const { return trace_.pages; }
  uint64_t budget() const { return trace_.budget; }
  size_t length() const { return accesses_; }
  size_t done() const { return trace_.accesses.size(); }
  uint64_t below(uint64_t n) { return random_() % n; }
  bool chance(double p) { return std::uniform_real_distribution<>()(random_) < p; }

  void touch(uint64_t page, bool write) {
    trace_.accesses.push_back({static_cast<uint32_t>(page % trace_.pages) & 0x7fffffff, write});
  }
  void pass(uint64_t first, uint64_t count, bool write) {
    for (uint64_t page = first; page < first + count; ++page) touch(page, write);
  }
  void warm() { trace_.warm_up = done(); }
  std::vector<uint32_t> shuffled(uint64_t count) {
    std::vector<uint32_t> all(count);
    std::iota(all.begin(), all.end(), 0u);
    std::shuffle(all.begin(), all.end(), random_);
    return all;
  }

 private:
  Trace& trace_;
  std::mt19937_64 random_;
  size_t accesses_;
};

// Ranks 0 … items-1 with probability proportional to 1 / (rank + 1)^0.99, by the inverse of the summed distribution.
class Zipf {
 public:
  explicit Zipf(uint64_t items) : sums_(items) {
    double sum = 0;
    for (uint64_t i = 0; i < items; ++i) sums_[i] = sum += std::pow(static_cast<double>(i + 1), -0.99);
  }
  uint64_t draw(Maker& maker) {
    const double at = sums_.back() * static_cast<double>(maker.below(1u << 30)) / (1u << 30);
    return static_cast<uint64_t>(std::upper_bound(sums_.begin(), sums_.end(), at) - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

// A key-value store: four values of 1 KiB a page, in no order of popularity, one access in ten a write. Loaded first.
class Store {
 public:
  Store(Maker& maker, uint64_t first, uint64_t pages)
      : first_(first), zipf_(pages * 4), place_(maker.shuffled(pages * 4)) {
    maker.pass(first, pages, true);
  }
  void operate(Maker& maker) { maker.touch(first_ + place_[zipf_.draw(maker)] / 4, maker.chance(0.1)); }

 private:
  uint64_t first_;
  Zipf zipf_;
  std::vector<uint32_t> place_;
};

void zipf(Maker& m) {
  Store store(m, 0, m.pages());
  for (size_t i = 0; i < m.length() / 2; ++i) store.operate(m);
  m.warm();
  for (size_t i = 0; i < m.length(); ++i) store.operate(m);
}

void uniform(Maker& m, bool write) {
  m.pass(0, m.pages(), true);
  for (size_t i = 0; i < m.length() / 8; ++i) m.touch(m.below(m.pages()), write);
  m.warm();
  for (size_t i = 0; i < m.length() / 2; ++i) m.touch(m.below(m.pages()), write);
}

void scan_loop(Maker& m) {
  m.pass(0, m.pages(), true);
  m.warm();
  for (int round = 0; round < 6; ++round) m.pass(0, m.pages(), false);
}

// A store that has the budget to itself, nearly, and a backup that reads the other three quarters of memory now and
// then.
void zipf_and_scan(Maker& m) {
  const uint64_t half = m.pages() / 4;
  m.pass(half, m.pages() - half, true);
  Store store(m, 0, half);
  for (int round = 0; round < 10; ++round) {
    if (round == 3) m.warm();
    for (uint64_t page = half; page < m.pages(); ++page) {
      m.touch(page, false);
      store.operate(m);
      store.operate(m);
    }
    for (size_t i = 0; i < m.length() / 20; ++i) store.operate(m);
  }
}

// Uniform over a set of half of the budget, in pieces of 32 pages, and a tenth of cold accesses; the set moves ten
// times.
void shifting(Maker& m) {
  constexpr uint64_t kPiece = 32;
  m.pass(0, m.pages(), true);
  m.warm();
  for (int phase = 0; phase < 10; ++phase) {
    std::vector<uint32_t> pieces = m.shuffled(m.pages() / kPiece);
    pieces.resize(m.budget() / 2 / kPiece);
    for (size_t i = 0; i < m.length() / 10; ++i) {
      const bool cold = m.chance(0.1);
      const uint64_t page = cold ? m.below(m.pages()) : pieces[m.below(pieces.size())] * kPiece + m.below(kPiece);
      m.touch(page, m.chance(0.2));
    }
  }
}

// A guest's start: a kernel's hot pages all the time, files read once in order, processes that fill memory, use it for
// a while and end.
void boot(Maker& m) {
  const uint64_t hot = m.pages() / 32;
  Zipf kernel(hot);
  std::vector<uint32_t> place = m.shuffled(hot);
  uint64_t file = hot;
  while (m.done() < m.length()) {
    const uint64_t heap = m.below(m.pages());
    const uint64_t size = m.pages() / 64 + m.below(m.pages() / 16);
    for (uint64_t i = 0; i < size; ++i) {
      m.touch(heap + i, true);
      m.touch(file, false);
      file = file + 1 < m.pages() ? file + 1 : hot;
      m.touch(place[kernel.draw(m)], m.chance(0.3));
    }
    for (uint64_t i = 0; i < size * 4; ++i) {
      m.touch(heap + m.below(size), m.chance(0.3));
      m.touch(place[kernel.draw(m)], m.chance(0.3));
    }
  }
}

// Merging runs of half of the region into the other half and back: runs grow four-fold a pass.
void sort(Maker& m) {
  const uint64_t half = m.pages() / 2;
  m.pass(0, half, true);
  m.warm();
  uint64_t from = 0, to = half;
  for (uint64_t run = half / 256; run < half; run *= 4, std::swap(from, to)) {
    for (uint64_t group = 0; group < half; group += run * 4) {
      uint64_t next[4] = {0, run, 2 * run, 3 * run};
      for (uint64_t out = 0; out < run * 4;) {
        const uint64_t way = m.below(4);
        if (next[way] == (way + 1) * run) continue;
        m.touch(from + group + next[way]++, false);
        m.touch(to + group + out++, true);
      }
    }
  }
}

struct Recipe {
  const char* name;
  double local;
  bool prefetch;
  void (*make)(Maker&);
};
const Recipe kRecipes[] = {
    {"zipf-50", 0.5, false, zipf},
    {"zipf-25", 0.25, false, zipf},
    {"zipf-10", 0.1, false, zipf},
    {"uniform-25", 0.25, false, [](Maker& m) { uniform(m, false); }},
    {"churn-25", 0.25, false, [](Maker& m) { uniform(m, true); }},
    {"scan-25", 0.25, false, scan_loop},
    {"scan-25-prefetch", 0.25, true, scan_loop},
    {"zipf+scan-25", 0.25, false, zipf_and_scan},
    {"shifting-25", 0.25, false, shifting},
    {"boot-25", 0.25, false, boot},
    {"boot-25-prefetch", 0.25, true, boot},
    {"sort-25", 0.25, false, sort},
    {"sort-25-prefetch", 0.25, true, sort},
};

}  // namespace

const std::vector<std::string>& trace_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Recipe& recipe : kRecipes) all.emplace_back(recipe.name);
    return all;
  }();
  return names;
}

Trace make_trace(const std::string& name, uint64_t seed, uint64_t scale) {
  const auto* recipe =
      std::find_if(std::begin(kRecipes), std::end(kRecipes), [&](const Recipe& r) { return name == r.name; });
  HEC_CHECK(recipe != std::end(kRecipes));
  Trace trace;
  trace.name = name;
  trace.prefetch = recipe->prefetch;
  Maker maker(trace, seed, scale);
  maker.local(recipe->local);
  recipe->make(maker);
  return trace;
}

}  // namespace hecaton::sim
