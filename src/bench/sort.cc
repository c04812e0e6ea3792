// bench sort: a merge sort of 64-bit keys over paged memory.
#include <algorithm>
#include <random>

#include "bench/algorithm.h"
#include "bench/benchmarks.h"
#include "bench/merge_sort.h"

namespace hecaton::bench {
namespace {

// One half of the memory is the keys, the other the spare.
class SortOf {
 public:
  explicit SortOf(uint64_t bytes) : count_(bytes / 2 / sizeof(uint64_t)) {}

  void prepare(std::byte* memory) {
    std::mt19937_64 random(1);
    for (uint64_t& key : keys(memory)) key = random();
    checksum_ = multiset_checksum(keys(memory));
  }
  void run(std::byte* memory) { sorted_ = merge_sort(keys(memory), {keys(memory).data() + count_, count_}); }
  bool check() const {
    return sorted_.size() == count_ && std::is_sorted(sorted_.begin(), sorted_.end()) &&
           multiset_checksum(sorted_) == checksum_;
  }

 private:
  std::span<uint64_t> keys(std::byte* memory) const { return {reinterpret_cast<uint64_t*>(memory), count_}; }

  const size_t count_;
  uint64_t checksum_ = 0;
  std::span<uint64_t> sorted_;
};

}  // namespace

Result<Report> measure_sort(const Options& options, std::string* problem) {
  const uint64_t bytes = options.region_or(64_MiB, 16_MiB);
  SortOf sort(bytes);
  const Algorithm algorithm{"sort",
                            "a merge sort of random 64-bit keys",
                            "the result is sorted, and holds the keys that went in",
                            bytes,
                            [&](std::byte* memory) { sort.prepare(memory); },
                            [&](std::byte* memory) { sort.run(memory); },
                            [&](const std::byte*) { return sort.check(); }};
  return measure_algorithm(algorithm, options, problem);
}

}  // namespace hecaton::bench
