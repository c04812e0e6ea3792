#include "bench/remote_reads.h"

#include <sys/mman.h>

#include <random>

#include "base/clock.h"

namespace hecaton::bench {
namespace {

uint64_t word_of(PageNumber page) {
  return page.value * 0x9e3779b97f4a7c15ull | 1;
}

volatile uint64_t* words_of(const PagedRegion& region, PageNumber page) {
  return reinterpret_cast<volatile uint64_t*>(region.data() + page.value * kPageBytes);
}

}  // namespace

void fill(const PagedRegion& region, UsedPages pages) {
  for (uint64_t i = 0; i < pages.count(); ++i) words_of(region, pages.at(i))[0] = word_of(pages.at(i));
}

std::vector<int64_t> read_remote(const PagedRegion& region, UsedPages pages, size_t rounds, uint64_t seed,
                                 uint64_t* wrong) {
  std::mt19937_64 random(seed);
  std::vector<int64_t> samples;
  samples.reserve(rounds);
  while (samples.size() < rounds) {
    const PageNumber page = pages.at(random() % pages.count());
    volatile uint64_t* words = words_of(region, page);
    unsigned char resident = 0;
    // mincore tells of the file's page, not of the mapping: a page that is nowhere here is a remote one.
    mincore(region.data() + page.value * kPageBytes, kPageBytes, &resident);
    const int64_t start = monotonic_ns();
    const uint64_t word = words[0];
    const int64_t took = monotonic_ns() - start;
    if (word != word_of(page)) ++*wrong;
    if ((resident & 1) == 0) samples.push_back(took);
  }
  return samples;
}

}  // namespace hecaton::bench
