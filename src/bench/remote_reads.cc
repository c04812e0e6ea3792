#include "bench/remote_reads.h"

#include <sys/mman.h>

#include <algorithm>
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

// The reader goes on before the fault thread has left its last mark, if each has a processor of its own.
bool marks_are_complete(const FaultTrace& trace, int64_t start) {
  for (const int64_t by = monotonic_ns() + 100'000; monotonic_ns() < by;) {
    if (trace.read.load() >= start && trace.installed.load() >= trace.answered.load()) return true;
  }
  return false;
}

void add_stages(const FaultTrace& trace, int64_t start, int64_t end, FaultStages* stages) {
  if (!marks_are_complete(trace, start)) return;
  stages->event_wait.push_back(trace.read - start);
  stages->table.push_back(trace.decided - trace.read);
  stages->send.push_back(trace.sent - trace.decided);
  stages->wire.push_back(trace.answered - trace.sent);
  stages->install.push_back(trace.installed - trace.answered);
  stages->wake.push_back(std::max<int64_t>(0, end - trace.installed));
}

}  // namespace

void fill(const PagedRegion& region, UsedPages pages) {
  for (uint64_t i = 0; i < pages.count(); ++i) words_of(region, pages.at(i))[0] = word_of(pages.at(i));
}

std::vector<int64_t> read_remote(const PagedRegion& region, UsedPages pages, size_t rounds, uint64_t seed,
                                 uint64_t* wrong, FaultStages* stages) {
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
    if ((resident & 1) != 0) continue;
    samples.push_back(took);
    if (stages) add_stages(region.last_demand(), start, start + took, stages);
  }
  return samples;
}

}  // namespace hecaton::bench
