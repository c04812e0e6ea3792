#include "base/units.h"

#include <fmt/format.h>

#include <charconv>

namespace hecaton {
namespace {

// The binary exponent of a unit suffix, or -1.
int shift_of(std::string_view suffix) {
  if (suffix.empty() || suffix == "B" || suffix == "b") return 0;
  int shift = 0;
  switch (suffix[0] | 0x20) {
    case 'k':
      shift = 10;
      break;
    case 'm':
      shift = 20;
      break;
    case 'g':
      shift = 30;
      break;
    case 't':
      shift = 40;
      break;
    default:
      return -1;
  }
  std::string_view rest = suffix.substr(1);
  return rest.empty() || rest == "B" || rest == "iB" || rest == "b" || rest == "ib" ? shift : -1;
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  if (text.empty()) return Error{ErrorCode::kInvalidArgument, 0, "the size is empty"};
  uint64_t number = 0;
  auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status == std::errc::result_out_of_range) return Error{ErrorCode::kInvalidArgument, 0, "the size is too large"};
  if (status != std::errc()) {
    return Error{ErrorCode::kInvalidArgument, 0, "a size is a whole number with an optional K, M, G or T"};
  }
  int shift = shift_of(text.substr(static_cast<size_t>(end - text.data())));
  if (shift < 0) return Error{ErrorCode::kInvalidArgument, 0, "a size is a whole number with an optional K, M, G or T"};
  if (number > (UINT64_MAX >> shift)) return Error{ErrorCode::kInvalidArgument, 0, "the size is too large"};
  if (number == 0) return Error{ErrorCode::kInvalidArgument, 0, "the size is zero"};
  return number << shift;
}

std::string format_size(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  int unit = 0;
  double value = static_cast<double>(bytes);
  while (value >= 1024 && unit < 6) {
    value /= 1024;
    ++unit;
  }
  bool whole = value == static_cast<double>(static_cast<uint64_t>(value));
  return whole ? fmt::format("{:.0f} {}", value, kUnits[unit]) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace hecaton
