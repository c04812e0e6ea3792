// What stands for a page on the wire: the page itself, or one LZ4 block where that is shorter and compression is
// chosen; of a sealed VM, the ciphertext of that. Takes the measurements that compression is chosen by.
//
// One thread: the evictor's. Allocates nothing after construction.
#pragma once

#include <array>
#include <memory>
#include <span>

#include "pager/pager_state.h"
#include "residency/eviction_policy.h"
#include "store/compression_choice.h"
#include "store/page_codec.h"
#include "store/page_seal.h"

namespace hecaton {

class PagePacker {
 public:
  PagePacker(PagerState& state, Compression wanted);

  // A batch of at most so many pages; what the last one's pages were packed into is overwritten. True: it is packed.
  bool begin(uint64_t pages);
  // The bytes that stand for a page, as `version`. The guest may write to it meanwhile: they are then of neither its
  // old nor its new content, and the write has taken the page back, so that the batch never commits it.
  std::span<const std::byte> pack(const std::byte* bytes, PageNumber page, uint32_t version);
  // A batch of that many pages is with its donor, and the pipe was busy with it that long.
  void acknowledged(bool packed, uint64_t pages, int64_t busy_ns);

 private:
  // Of each packed batch while measurements decide.
  static constexpr uint64_t kTimedPages = 8;
  // A smaller batch tells how far the donors are, rather than how much fits through.
  static constexpr uint64_t kLeastTimedBatch = 16;
  using Page = std::array<std::byte, kPageBytes>;

  std::span<const std::byte> packed(const std::byte* bytes);
  std::span<const std::byte> sealed(std::span<const std::byte> plain, PageNumber page, uint32_t version);
  size_t compress(const std::byte* page, std::span<std::byte, PageCompressor::kMostBytes> block);

  PagerState& state_;
  CompressionChoice choice_;
  PageCompressor compressor_;
  std::optional<PageSeal> seal_;
  alignas(64) Page copy_;
  alignas(64) Page unpacked_;
  std::unique_ptr<std::byte[]> blocks_;
  size_t used_ = 0;  // of blocks_
  uint64_t to_time_ = 0;
  bool packing_ = false;
};

}  // namespace hecaton
