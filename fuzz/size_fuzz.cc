// parse_size: what it takes is the number times a unit, without overflow, and is shown as a size.
#include <cctype>

#include "base/units.h"
#include "fuzz.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  Result<uint64_t> bytes = parse_size(text);
  if (!bytes.ok()) {
    HEC_CHECK(bytes.error().context != nullptr);
    return 0;
  }
  unsigned __int128 number = 0;
  size_t digits = 0;
  for (; digits < text.size() && std::isdigit(static_cast<unsigned char>(text[digits])) != 0; ++digits) {
    number = number * 10 + static_cast<unsigned>(text[digits] - '0');
  }
  HEC_CHECK(digits > 0 && *bytes != 0 && *bytes % number == 0);
  const unsigned __int128 unit = *bytes / number;
  HEC_CHECK(unit == 1 || unit == 1_KiB || unit == 1_MiB || unit == 1_GiB || unit == 1024_GiB);
  HEC_CHECK(!format_size(*bytes).empty());
  return 0;
}
