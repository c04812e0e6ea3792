// What this machine can do at best, measured in the same run as the figures that are compared with it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace hecaton::cli {

struct Quantiles {
  double p50_us = 0, p90_us = 0, p99_us = 0;
};
// Sorts the samples (nanoseconds).
Quantiles quantiles_of(std::vector<int64_t>& samples_ns);

// A page fault on shared memory that a spinning thread answers with UFFDIO_COPY from a ready buffer: nothing but the
// kernel and the two processors. `rounds` faults, each on a page of its own.
Result<Quantiles> measure_raw_fault(size_t rounds);

// A request and reply over loopback TCP of the sizes that a demand read has (40 and 4152 bytes), both ends spinning on
// non-blocking sockets, each in a thread of its own.
Result<Quantiles> measure_raw_tcp(size_t rounds);

}  // namespace hecaton::cli
