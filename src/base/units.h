// Sizes and distinct number types: pages, extents and addresses do not mix by accident.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hecaton {

inline constexpr size_t kPageBytes = 4096;           // a page of a region
inline constexpr size_t kExtentBytes = 1024 * 1024;  // the unit of placement
inline constexpr size_t kPagesPerExtent = kExtentBytes / kPageBytes;

inline constexpr uint64_t operator""_KiB(unsigned long long n) {
  return n << 10;
}
inline constexpr uint64_t operator""_MiB(unsigned long long n) {
  return n << 20;
}
inline constexpr uint64_t operator""_GiB(unsigned long long n) {
  return n << 30;
}

// A number that is only comparable with, and assignable from, its own kind.
template <typename Tag>
struct Number {
  uint64_t value = 0;

  constexpr Number() = default;
  constexpr explicit Number(uint64_t v) : value(v) {}
  constexpr auto operator<=>(const Number&) const = default;
  constexpr Number operator+(uint64_t n) const { return Number(value + n); }
  constexpr Number& operator++() {
    ++value;
    return *this;
  }
  // Distance in units; `other` must not be larger.
  constexpr uint64_t operator-(Number other) const { return value - other.value; }
};

using PageNumber = Number<struct PageTag>;      // page of a region, counted from its start
using ExtentNumber = Number<struct ExtentTag>;  // extent of a region, counted from its start

constexpr ExtentNumber extent_of(PageNumber page) {
  return ExtentNumber(page.value / kPagesPerExtent);
}
constexpr uint64_t pages_in(uint64_t bytes) {
  return (bytes + kPageBytes - 1) / kPageBytes;
}
constexpr uint64_t extents_in(uint64_t pages) {
  return (pages + kPagesPerExtent - 1) / kPagesPerExtent;
}

// `count` pages from `first` on.
struct PageRun {
  PageNumber first;
  uint64_t count = 0;

  constexpr PageNumber end() const { return first + count; }
  constexpr bool operator==(const PageRun&) const = default;
};

// Parses bytes, or a number with K, M, G or T (binary; "KiB", "MB" and lower case are accepted too). Fractions, signs,
// overflow, zero and anything else are errors whose context says which.
Result<uint64_t> parse_size(std::string_view text);

// "512 MiB", "1.5 GiB": at most one decimal.
std::string format_size(uint64_t bytes);

}  // namespace hecaton
