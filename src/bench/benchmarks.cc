#include "bench/benchmarks.h"

namespace hecaton::bench {
namespace {

constexpr size_t kMostRounds = 10'000'000;
// Nodes take turns, tens of microseconds each where every other operation takes a few at most.
constexpr size_t kMostTurns = 100'000;

constexpr Benchmark kBenchmarks[] = {
    {"fault", "what one remote page fault costs",
     "Reads random pages of a region of which an eighth is local, and times those reads that find their page remote.\n"
     "--rounds counts the faults of one repeat. --tls measures the same over TLS, in turns, and what its cipher "
     "takes.\n"
     "JSON: p50_us, p90_us, p99_us; limit.uffd_us + limit.tcp_us, the machine's own; ratio of p50 to their sum; "
     "stages; tls with the same over TLS.",
     measure_fault, kMostRounds, true, true, true, true, true},
    {"scan", "how fast one thread reads remote memory",
     "Reads a region of which an eighth is local: in order, in strides of 2, 3 and 16 pages, and backwards.\n"
     "JSON: gbps, tcp_gbps (the limit) and their ratio, prefetch; the same in patterns.NAME.",
     measure_scan, 0, true, true, true, true, true},
    {"churn", "random writes over four times the budget",
     "Writes to random pages of a region four times as big as --local, so that nearly every page that comes in pushes\n"
     "a dirty one out. --rounds counts the writes of one repeat.\n"
     "JSON: pages_per_s, limit.pages_per_s and their ratio; write_amplification (pages sent for each fetched).",
     measure_churn, kMostRounds, true, true, true, false, true},
    {"zipf", "a key-value loop with 100, 50, 25 and 10 % of its memory local",
     "Values of 1 KiB, wanted with a Zipf skew of 0.99 and scattered over memory, 10 % writes; every value read is\n"
     "verified. Shows the slowdown against memory without a pager, and the floor that no paging could better.\n"
     "JSON: slowdown.PERCENT; local[] with ops_per_s, all_local_ops_per_s, miss_ratio and floor.",
     measure_zipf, 0, true, false, true, false, true},
    {"sort", "a merge sort with 50 and 25 % of its memory local",
     "Sorts random 64-bit keys that fill half of --size; the other half is the spare that merging needs. The result "
     "is\n"
     "verified. Shows the slowdown against memory without a pager.\n"
     "JSON: slowdown.PERCENT; local[] with seconds, all_local_seconds, bytes_in, bytes_out and floor.",
     measure_sort, 0, true, false, true, false, true},
    {"pagerank", "PageRank with 50 and 25 % of its memory local",
     "Ranks the nodes of a power-law graph that fills --size. The ranks must be those of memory without a pager, to "
     "the\n"
     "last bit. Shows the slowdown against it.\n"
     "JSON: slowdown.PERCENT; local[] with seconds, all_local_seconds, bytes_in, bytes_out and floor.",
     measure_pagerank, 0, true, false, true, false, true},
    {"nodes", "a remote fault with 1 to 10,000 donors in the pool",
     "Reads random pages that are spread over 1, 10, 100, 1,000 and 10,000 donors, which helper processes on this\n"
     "machine play; and sends as many bytes over as many plain TCP connections, which cost more than one, too. Ten\n"
     "thousand donors take about 12,000 descriptors: the limit is raised as far as it may be.\n"
     "JSON: pools[] with donors, ratio_to_one and more_us, the same of plain TCP (tcp_us, tcp_ratio_to_one,\n"
     "tcp_more_us), stages, ratio to the limit, host_bytes_per_donor; skipped[] with why.",
     measure_nodes, kMostRounds, false, true, false, false, true},
    {"pingpong", "what coherence costs: pages that several nodes of one VM write and read",
     "Starts two and four nodes of an aggregate VM as processes on this machine, and lets them take turns: both write "
     "one\n"
     "page; one writes what 1 and 3 others have read; one touches memory of its own for the first time, or reads "
     "through\n"
     "another's. Pages leave as soon as they are asked for; in a VM they may be kept for the hold time first.\n"
     "JSON: p50_us, p90_us, p99_us of a write to a page that the other wrote, ratio of p50 to limit.sum_us; "
     "invalidate.1\n"
     "and .3, invalidate.ratio and .limit (raw messages); upgrade with pages_sent; first_touch_us; stream_gbps.",
     measure_pingpong, kMostTurns, false, false, false, false, false},
};

}  // namespace

std::span<const Benchmark> benchmarks() {
  return kBenchmarks;
}

}  // namespace hecaton::bench
