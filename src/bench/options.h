// What a benchmark is told, and what all of them use: regions, medians, progress.
//
// A benchmark measures in several repeats and shows medians, so that a moment of other work on the machine does not
// decide a figure. Limits of the machine are taken in every repeat too, next to the figure that they are compared with.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "bench/limits.h"
#include "capi/paged_region.h"

namespace hecaton::bench {

struct Options {
  uint64_t region_bytes = 0;   // 0: the benchmark's own
  uint64_t local_bytes = 0;    // 0: the benchmark's own
  size_t rounds = 0;           // operations a repeat; 0: the benchmark's own
  size_t repeats = 5;          // never 0
  bool quick = false;          // does everything and measures nothing well: for a test of the benchmarks themselves
  std::vector<NodeUrl> nodes;  // empty: an embedded donor over loopback TCP
  bool insecure = false;
  Credentials credentials = {};                      // for nodes whose URL has no token
  bool tls = false;                                  // measure over TLS too, beside
  bool seal = false;                                 // pages are encrypted and authenticated before they leave
  std::function<void(const std::string&)> progress;  // what is being done; may be empty

  uint64_t region_or(uint64_t own, uint64_t own_quick) const {
    return region_bytes != 0 ? region_bytes : quick ? own_quick : own;
  }
  size_t rounds_or(size_t own, size_t own_quick) const { return rounds != 0 ? rounds : quick ? own_quick : own; }
  void say(const std::string& doing) const {
    if (progress) progress(doing);
  }
};

// Where a failure's text for the user goes. Use: HEC_TRY(explained(problem, something())).
template <typename T>
Result<T> explained(std::string* problem, Result<T> result) {
  if (!result.ok()) *problem = result.error().describe();
  return result;
}

struct RegionShape {
  uint64_t bytes;
  uint64_t local_bytes;
  uint64_t prefetch_pages = PagedRegionConfig{}.prefetch_pages;
  bool embedded_tls = false;
};
// Of --size and --local, or an eighth of the size. Error: kInvalidArgument, too little would be remote.
Result<RegionShape> mostly_remote(const Options& options, uint64_t own_bytes, uint64_t own_quick, std::string* problem);
Result<std::unique_ptr<PagedRegion>> open_region(const Options& options, RegionShape shape, std::string* problem);

// Memory like a region's that no pager watches: what "all local" is measured on.
class PlainMemory {
 public:
  static Result<PlainMemory> create(uint64_t bytes);
  std::byte* data() const { return view_.data(); }

 private:
  PlainMemory(OwnedFd memfd, Mapping view) : memfd_(std::move(memfd)), view_(std::move(view)) {}
  OwnedFd memfd_;
  Mapping view_;
};

// A remote fault's limits, sampled once a repeat.
class FaultLimits {
 public:
  Result<void> sample(const Options& options, std::string* problem);
  Quantiles uffd() const { return median(uffd_); }
  Quantiles tcp() const { return median(tcp_); }
  double sum_us() const { return uffd().p50_us + tcp().p50_us; }

 private:
  std::vector<Quantiles> uffd_, tcp_;
};

// Loopback TCP's throughput, sampled once a repeat: the best of several buffer sizes.
class StreamLimit {
 public:
  Result<void> sample(const Options& options, std::string* problem);
  double gbps() const;
  size_t buffer_bytes() const;  // the size that was best

 private:
  std::vector<std::vector<double>> by_size_;
};

// How the limits are taken, in the words of the reports.
std::string fault_limit_note();
extern const char* const kStreamLimitNote;

class Stopwatch {
 public:
  double seconds() const { return static_cast<double>(monotonic_ns() - start_ns_) / 1e9; }

 private:
  int64_t start_ns_ = monotonic_ns();
};

}  // namespace hecaton::bench
