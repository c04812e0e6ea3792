// Compressed pages: decompress_page takes any bytes and writes nothing beyond the page; a page that is compressed comes
// back as it was.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "fuzz.h"
#include "store/page_codec.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static PageCompressor compressor;
  // On the heap, and as long as they must be: the sanitizer sees a byte too many.
  const std::vector<std::byte> block(reinterpret_cast<const std::byte*>(data),
                                     reinterpret_cast<const std::byte*>(data) + std::min<size_t>(size, kPageBytes));
  std::vector<std::byte> page(kPageBytes), packed(PageCompressor::kMostBytes), again(kPageBytes);
  (void)decompress_page(block, std::span<std::byte, kPageBytes>(page));
  // What it wrote, or the input itself as a page.
  std::copy(block.begin(), block.end(), page.begin());
  const size_t length = compressor.compress(std::span<const std::byte, kPageBytes>(page),
                                            std::span<std::byte, PageCompressor::kMostBytes>(packed));
  if (length == 0) return 0;
  HEC_CHECK(length <= packed.size());
  HEC_CHECK(decompress_page(std::span(packed).first(length), std::span<std::byte, kPageBytes>(again)));
  HEC_CHECK(again == page);
  return 0;
}
