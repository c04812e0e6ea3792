// decode_text: whatever a donor says, a terminal gets printable ASCII of bounded length.
#include "fuzz.h"
#include "wire/frame.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text = wire::decode_text(fuzz::bytes_of(data, size));
  HEC_CHECK(text.size() <= wire::kMaxTextBytes);
  for (char c : text) HEC_CHECK(c >= 0x20 && c <= 0x7e);
  return 0;
}
