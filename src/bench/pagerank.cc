// bench pagerank: PageRank over a power-law graph in paged memory.
#include <algorithm>
#include <cstring>
#include <vector>

#include "bench/algorithm.h"
#include "bench/benchmarks.h"
#include "bench/link_graph.h"

namespace hecaton::bench {

Result<Report> measure_pagerank(const Options& options, std::string* problem) {
  const uint64_t bytes = options.region_or(64_MiB, 16_MiB);
  const LinkGraph graph(bytes);
  const unsigned rounds = options.quick ? 2 : 5;
  options.say("drawing the graph");
  std::vector<std::byte> drawn(bytes);
  graph.generate(drawn.data());
  std::vector<double> expected;
  auto check = [&](const std::byte* memory) {
    const std::span<const double> ranks = graph.ranks(memory);
    if (expected.empty()) expected.assign(ranks.begin(), ranks.end());
    return std::memcmp(expected.data(), ranks.data(), ranks.size_bytes()) == 0;
  };
  const Algorithm algorithm{"pagerank",
                            "PageRank over a power-law graph in compressed sparse rows",
                            "all ranks are those of memory without a pager, to the last bit",
                            bytes,
                            [&](std::byte* memory) { std::memcpy(memory, drawn.data(), bytes); },
                            [&](std::byte* memory) { graph.rank(memory, rounds); },
                            check};
  Report report = HEC_TRY(measure_algorithm(algorithm, options, problem));
  report.figures["nodes"] = graph.nodes();
  report.figures["links"] = graph.links();
  report.figures["rounds"] = rounds;
  return report;
}

}  // namespace hecaton::bench
