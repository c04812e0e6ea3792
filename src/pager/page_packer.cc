#include "pager/page_packer.h"

#include <cstring>

#include "base/clock.h"
#include "wire/frame.h"

namespace hecaton {
namespace {

// For the largest batch; none if its pages are sent from where they are.
size_t room_for(Compression compression, bool sealing) {
  const size_t most = sealing ? kPageBytes : compression == Compression::kOff ? 0 : PageCompressor::kMostBytes;
  return EvictionPolicy::kMaxRun * most;
}

}  // namespace

PagePacker::PagePacker(PagerState& state, Compression wanted)
    : state_(state),
      choice_(wanted),
      seal_(PageSeal::of(state.seal)),
      blocks_(std::make_unique_for_overwrite<std::byte[]>(room_for(wanted, seal_.has_value()))) {}

bool PagePacker::begin(uint64_t pages) {
  used_ = 0;
  packing_ = choice_.packs(pages >= kLeastTimedBatch);
  to_time_ = choice_.measures() ? kTimedPages : 0;
  return packing_;
}

std::span<const std::byte> PagePacker::pack(const std::byte* bytes, PageNumber page, uint32_t version) {
  std::span<const std::byte> stored = packing_ ? packed(bytes) : wire::whole_page(bytes);
  if (seal_) stored = sealed(stored, page, version);
  state_.counters.wire_bytes_written.add(stored.size());
  return stored;
}

std::span<const std::byte> PagePacker::packed(const std::byte* bytes) {
  std::span<std::byte, PageCompressor::kMostBytes> block(blocks_.get() + used_, PageCompressor::kMostBytes);
  const size_t length = compress(bytes, block);
  if (length == 0) return wire::whole_page(bytes);
  used_ += length;
  state_.counters.compressed.add();
  return block.first(length);
}

// A block that was just packed is sealed where it lies.
std::span<const std::byte> PagePacker::sealed(std::span<const std::byte> plain, PageNumber page, uint32_t version) {
  const bool whole = plain.size() == kPageBytes;
  std::byte* out = whole ? blocks_.get() + used_ : blocks_.get() + used_ - plain.size();
  if (whole) used_ += kPageBytes;
  seal_->seal(page, version, plain, out);
  return {out, plain.size()};
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
