// The benchmarks, one file each. Each measures and reports; on error `problem` says it in words for the user.
#pragma once

#include <span>
#include <string>

#include "bench/options.h"
#include "bench/report.h"

namespace hecaton::bench {

Result<Report> measure_fault(const Options& options, std::string* problem);
Result<Report> measure_scan(const Options& options, std::string* problem);
Result<Report> measure_churn(const Options& options, std::string* problem);
Result<Report> measure_zipf(const Options& options, std::string* problem);
Result<Report> measure_sort(const Options& options, std::string* problem);
Result<Report> measure_pagerank(const Options& options, std::string* problem);
Result<Report> measure_nodes(const Options& options, std::string* problem);
Result<Report> measure_pingpong(const Options& options, std::string* problem);

struct Benchmark {
  const char* name;
  const char* summary;      // one line
  const char* explanation;  // what it does, and what its figures mean
  Result<Report> (*measure)(const Options&, std::string*);
  size_t most_rounds;                                      // 0: --rounds means nothing to it
  bool has_size, has_local, has_nodes, has_tls, has_seal;  // which options mean something to it
};
std::span<const Benchmark> benchmarks();

}  // namespace hecaton::bench
