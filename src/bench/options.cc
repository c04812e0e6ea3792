#include "bench/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace hecaton::bench {
namespace {

constexpr std::array<size_t, 5> kStreamBuffers{64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20};

}  // namespace

std::string fault_limit_note() {
  return fmt::format(
      "limit: a userfault that a thread answers from a ready buffer (UFFDIO_COPY), on the same processor or spinning "
      "on another, whichever is quicker, plus a request and reply of the same sizes over loopback TCP, {}; p50 of "
      "each, "
      "taken in every repeat",
      how_both_ends_wait());
}
const char* const kStreamLimitNote =
    "limit: one loopback TCP stream, a thread that sends and a thread that receives, blocking calls, the best of "
    "buffers of 64 KiB to 1 MiB, taken in every repeat";

Result<RegionShape> mostly_remote(const Options& options, uint64_t own_bytes, uint64_t own_quick,
                                  std::string* problem) {
  const uint64_t bytes = options.region_or(own_bytes, own_quick);
  const uint64_t local = options.local_bytes != 0 ? options.local_bytes : bytes / 8;
  if (local <= bytes / 2) return RegionShape{bytes, local};
  *problem = fmt::format("--local {} is more than half of --size {}: too little would be remote to measure it",
                         format_size(local), format_size(bytes));
  return Error{ErrorCode::kInvalidArgument, 0, "too much local memory"};
}

Result<std::unique_ptr<PagedRegion>> open_region(const Options& options, RegionShape shape, std::string* problem) {
  // The kernel would end some program, perhaps this one, when the region is filled.
  const uint64_t needed = shape.bytes + shape.local_bytes;  // the donor's share is at most all of it
  if (const uint64_t available = available_memory(); options.nodes.empty() && available != 0 && needed > available) {
    *problem = fmt::format(
        "a region of {} with {} of it local needs up to {} of this machine's memory, since the donor is here too, and "
        "{} are available; choose a smaller --size, or name a donor on another machine with --node",
        format_size(shape.bytes), format_size(shape.local_bytes), format_size(needed), format_size(available));
    return Error{ErrorCode::kUnavailable, 0, "too little memory"};
  }
  PagedRegionConfig config;
  config.bytes = shape.bytes;
  config.local_bytes = shape.local_bytes;
  config.prefetch_pages = shape.prefetch_pages;
  config.nodes = options.nodes;
  config.insecure = options.insecure;
  config.credentials = options.credentials;
  config.embedded_tls = shape.embedded_tls;
  config.seal = options.seal;
  config.compression = default_compression(options.seal);
  return PagedRegion::open(std::move(config), problem);
}

Result<PlainMemory> PlainMemory::create(uint64_t bytes) {
  OwnedFd memfd = HEC_TRY(create_memfd("hecaton-bench", bytes));
  Mapping view = HEC_TRY(Mapping::shared(memfd.get(), bytes));
  return PlainMemory(std::move(memfd), std::move(view));
}

Result<void> FaultLimits::sample(const Options& options, std::string* problem) {
  const size_t rounds = options.quick ? 500 : 10'000;
  uffd_.push_back(HEC_TRY(explained(problem, measure_raw_fault(rounds))));
  tcp_.push_back(HEC_TRY(explained(problem, measure_raw_tcp(rounds))));
  return {};
}

Result<void> StreamLimit::sample(const Options& options, std::string* problem) {
  by_size_.resize(kStreamBuffers.size());
  for (size_t i = 0; i < kStreamBuffers.size(); ++i) {
    const uint64_t bytes = options.quick ? 16_MiB : 256_MiB;
    by_size_[i].push_back(HEC_TRY(explained(problem, measure_raw_stream(kStreamBuffers[i], bytes))));
  }
  return {};
}

double StreamLimit::gbps() const {
  double best = 0;
  for (const auto& samples : by_size_) best = std::max(best, median(samples));
  return best;
}

size_t StreamLimit::buffer_bytes() const {
  for (size_t i = 0; i < by_size_.size(); ++i) {
    if (median(by_size_[i]) == gbps()) return kStreamBuffers[i];
  }
  return 0;
}

}  // namespace hecaton::bench
