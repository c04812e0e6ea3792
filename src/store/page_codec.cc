#include "store/page_codec.h"

#include <lz4.h>

namespace hecaton {
namespace {

const char* chars(const std::byte* bytes) {
  return reinterpret_cast<const char*>(bytes);
}
char* chars(std::byte* bytes) {
  return reinterpret_cast<char*>(bytes);
}

}  // namespace

PageCompressor::PageCompressor() : state_(new std::byte[static_cast<size_t>(LZ4_sizeofState())]) {}

size_t PageCompressor::compress(std::span<const std::byte, kPageBytes> page, std::span<std::byte, kMostBytes> block) {
  constexpr int kFastest = 1;
  return static_cast<size_t>(LZ4_compress_fast_extState(state_.get(), chars(page.data()), chars(block.data()),
                                                        kPageBytes, kMostBytes, kFastest));
}

bool decompress_page(std::span<const std::byte> block, std::span<std::byte, kPageBytes> page) {
  return LZ4_decompress_safe(chars(block.data()), chars(page.data()), static_cast<int>(block.size()), kPageBytes) ==
         static_cast<int>(kPageBytes);
}

}  // namespace hecaton
