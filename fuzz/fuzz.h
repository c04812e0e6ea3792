// What the fuzz targets share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/check.h"

namespace hecaton::fuzz {

inline std::span<const std::byte> bytes_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const std::byte*>(data), size};
}

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// What was decoded must be what was sent: `again` is the decoded value, encoded.
inline void check_same(std::span<const std::byte> sent, std::span<const std::byte> again) {
  HEC_CHECK(sent.size() == again.size());
  for (size_t i = 0; i < sent.size(); ++i) HEC_CHECK(sent[i] == again[i]);
}

}  // namespace hecaton::fuzz
