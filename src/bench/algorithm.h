// An algorithm over memory of which only a part is local: the same work, on the same bytes, with and without a pager.
#pragma once

#include <functional>
#include <string>

#include "bench/options.h"
#include "bench/report.h"

namespace hecaton::bench {

// What it does to a piece of memory. Only run() is timed.
struct Algorithm {
  const char* name;
  const char* title;
  const char* checked;  // how check() knows, for the report
  uint64_t bytes;       // of the memory
  std::function<void(std::byte*)> prepare, run;
  std::function<bool(const std::byte*)> check;  // of the result. Memory without a pager comes first.
};

// Runs it at 50 and 25 % local, in turn with runs on memory without a pager.
Result<Report> measure_algorithm(const Algorithm& algorithm, const Options& options, std::string* problem);

}  // namespace hecaton::bench
