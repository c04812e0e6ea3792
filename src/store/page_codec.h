// A page as one LZ4 block, and back: how a page may travel and lie at its donor, who keeps the block as it came.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/units.h"

namespace hecaton {

// Owns what LZ4 works in, so that it allocates nothing after construction. One thread.
class PageCompressor {
 public:
  // A longer block is not worth its decompression.
  static constexpr size_t kMostBytes = kPageBytes * 3 / 4;

  PageCompressor();
  // Writes the block of a page that nobody changes meanwhile, and returns its length; 0: the page is better left as it
  // is.
  size_t compress(std::span<const std::byte, kPageBytes> page, std::span<std::byte, kMostBytes> block);

 private:
  std::unique_ptr<std::byte[]> state_;
};

// False unless the block is that of one whole page; never writes beyond it, whatever the block is.
[[nodiscard]] bool decompress_page(std::span<const std::byte> block, std::span<std::byte, kPageBytes> page);

}  // namespace hecaton
