#include "bench/link_graph.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "base/check.h"
#include "bench/zipf_numbers.h"

namespace hecaton::bench {
namespace {

constexpr uint64_t kBytesPerNode = 128;
constexpr double kSkew = 0.7;
constexpr double kDamping = 0.85;

std::vector<uint32_t> shuffled(uint64_t count, std::mt19937_64& random) {
  std::vector<uint32_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  std::shuffle(numbers.begin(), numbers.end(), random);
  return numbers;
}

}  // namespace

LinkGraph::LinkGraph(uint64_t bytes) : nodes_(bytes / kBytesPerNode) {
  HEC_CHECK(nodes_ >= 2 && nodes_ <= UINT32_MAX);
  ranks_at_ = first_at_ + (nodes_ + 1) * sizeof(uint64_t);
  gifts_at_ = ranks_at_ + nodes_ * sizeof(double);
  leaving_at_ = gifts_at_ + nodes_ * sizeof(double);
  sources_at_ = leaving_at_ + nodes_ * sizeof(uint32_t);
  links_ = (bytes - sources_at_) / sizeof(uint32_t);
}

// The most wanted sources and the most wanted targets are different nodes, anywhere.
template <typename Use>
void LinkGraph::for_each_link(Use use) const {
  std::mt19937_64 random(1);
  const ZipfNumbers numbers(nodes_, kSkew);
  const std::vector<uint32_t> sources = shuffled(nodes_, random), targets = shuffled(nodes_, random);
  for (uint64_t i = 0; i < links_; ++i) {
    const uint32_t source = sources[numbers.next(random)];
    use(source, targets[numbers.next(random)]);
  }
}

void LinkGraph::generate(std::byte* memory) const {
  uint64_t* first = at<uint64_t>(memory, first_at_);
  uint32_t* leaving = at<uint32_t>(memory, leaving_at_);
  uint32_t* sources = at<uint32_t>(memory, sources_at_);
  std::fill(first, first + nodes_ + 1, 0);
  std::fill(leaving, leaving + nodes_, 0);
  for_each_link([&](uint32_t source, uint32_t target) {
    ++first[target + 1];
    ++leaving[source];
  });
  std::partial_sum(first, first + nodes_ + 1, first);
  std::vector<uint64_t> next(first, first + nodes_);
  for_each_link([&](uint32_t source, uint32_t target) { sources[next[target]++] = source; });
}

void LinkGraph::rank(std::byte* memory, unsigned rounds) const {
  const uint64_t* first = at<uint64_t>(memory, first_at_);
  const uint32_t* leaving = at<uint32_t>(memory, leaving_at_);
  const uint32_t* sources = at<uint32_t>(memory, sources_at_);
  double* ranks = at<double>(memory, ranks_at_);
  double* gifts = at<double>(memory, gifts_at_);
  const double share = 1 / static_cast<double>(nodes_);
  std::fill(ranks, ranks + nodes_, share);
  for (unsigned round = 0; round < rounds; ++round) {
    double kept = 0;  // by nodes without links: everybody's
    for (uint64_t node = 0; node < nodes_; ++node) {
      gifts[node] = leaving[node] == 0 ? 0 : ranks[node] / leaving[node];
      if (leaving[node] == 0) kept += ranks[node];
    }
    for (uint64_t node = 0; node < nodes_; ++node) {
      double given = 0;
      for (uint64_t link = first[node]; link < first[node + 1]; ++link) given += gifts[sources[link]];
      ranks[node] = (1 - kDamping) * share + kDamping * (given + kept * share);
    }
  }
}

std::span<const double> LinkGraph::ranks(const std::byte* memory) const {
  return {reinterpret_cast<const double*>(memory + ranks_at_), nodes_};
}

}  // namespace hecaton::bench
