#include "pager/page_packer.h"

#include <cstring>

#include "base/clock.h"
#include "wire/frame.h"

namespace hecaton {
namespace {

constexpr size_t kBlocksBytes = EvictionPolicy::kMaxRun * PageCompressor::kMostBytes;

}  // namespace

PagePacker::PagePacker(PagerState& state, Compression wanted)
    : state_(state),
      choice_(wanted),
      blocks_(wanted == Compression::kOff ? nullptr : std::make_unique_for_overwrite<std::byte[]>(kBlocksBytes)) {}

bool PagePacker::begin(uint64_t pages) {
  used_ = 0;
  packing_ = choice_.packs(pages >= kLeastTimedBatch);
  to_time_ = choice_.measures() ? kTimedPages : 0;
  return packing_;
}

std::span<const std::byte> PagePacker::pack(const std::byte* page) {
  std::span<const std::byte> stored = wire::whole_page(page);
  if (packing_) {
    std::span<std::byte, PageCompressor::kMostBytes> block(blocks_.get() + used_, PageCompressor::kMostBytes);
    const size_t bytes = compress(page, block);
    used_ += bytes;
    if (bytes > 0) {
      stored = block.first(bytes);
      state_.counters.compressed.add();
    }
  }
  state_.counters.wire_bytes_written.add(stored.size());
  return stored;
}

size_t PagePacker::compress(const std::byte* page, std::span<std::byte, PageCompressor::kMostBytes> block) {
  const int64_t began = to_time_ > 0 ? monotonic_ns() : 0;
  std::memcpy(copy_.data(), page, kPageBytes);  // LZ4 wants bytes that hold still
  const size_t bytes = compressor_.compress(copy_, block);
  if (to_time_ == 0) return bytes;
  --to_time_;
  const int64_t compressed = monotonic_ns();
  if (bytes > 0) HEC_CHECK(decompress_page(block.first(bytes), unpacked_));
  choice_.worked(compressed - began, bytes > 0 ? monotonic_ns() - compressed : 0);
  return bytes;
}

void PagePacker::acknowledged(bool packed, uint64_t pages, int64_t busy_ns) {
  if (pages < kLeastTimedBatch || !choice_.measures()) return;
  choice_.acknowledged(packed, pages, busy_ns);
  state_.compressing.store(choice_.on());
}

}  // namespace hecaton
