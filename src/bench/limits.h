// What this machine can do at best, measured in the same run as the figures that are compared with it; and the
// statistics of samples.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "wire/frame.h"

namespace hecaton::bench {

struct Quantiles {
  double p50_us = 0, p90_us = 0, p99_us = 0;
  // The whole distribution, for a plot: the times that i % of the samples do not pass, i from 0 to 99.
  std::vector<double> percentiles_us;
};
// Sorts the samples (nanoseconds).
Quantiles quantiles_of(std::vector<int64_t>& samples_ns);

// The middle of the values, or the mean of the two in the middle; 0 if there are none.
double median(std::vector<double> values);
// Each quantile's median over the repeats.
Quantiles median(const std::vector<Quantiles>& repeats);

// What a demand read of one page sends and gets over TCP.
inline constexpr size_t kReadRequestBytes = wire::kHeaderBytes + wire::read_request_bytes(1);
inline constexpr size_t kReadReplyBytes = wire::kHeaderBytes + wire::page_set_head_bytes(1) + kPageBytes;

// For the threads of a limit: two processors, or the same one twice if there is no other.
std::pair<unsigned, unsigned> two_processors();

// A page fault on shared memory that a thread answers with UFFDIO_COPY from a ready buffer: nothing but the kernel and
// the processors. In the quicker of two ways: the thread sits on the processor of the one that faults, or spins on
// another. `rounds` faults each, each on a page of its own.
Result<Quantiles> measure_raw_fault(size_t rounds);

// How the two ends of measure_raw_exchange() wait, for the notes of reports.
const char* how_both_ends_wait();
// A request and reply over loopback TCP of the sizes that a demand read has (40 and 4152 bytes), both ends spinning on
// non-blocking sockets, each on a processor of its own; on the only one they yield, or sleep where others are busy.
Result<Quantiles> measure_raw_tcp(size_t rounds);
// The same of any sizes.
Result<Quantiles> measure_raw_exchange(size_t request_bytes, size_t reply_bytes, size_t rounds);

// A message of `bytes` to each of so many peers, and an answer of the same size from each: threads that share the
// processors, and yield while they wait, or sleep where others are busy.
Result<Quantiles> measure_raw_fan_out(size_t peers, size_t bytes, size_t rounds);

// Encrypting one page with AES-128-GCM, as TLS does it. A remote fault over TLS takes that twice, and the protocol.
Quantiles measure_aes(size_t rounds);

// `bytes` through one loopback TCP stream, in GB/s: a thread that sends and one that receives, with blocking calls of
// up to buffer_bytes each.
Result<double> measure_raw_stream(size_t buffer_bytes, uint64_t bytes);

}  // namespace hecaton::bench
