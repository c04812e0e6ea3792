// decode_reserve: what it takes encodes to the same bytes.
#include "fuzz.h"
#include "wire/frame.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto body = fuzz::bytes_of(data, size);
  if (auto bytes = wire::decode_reserve(body); bytes.ok()) fuzz::check_same(body, wire::encode_reserve(*bytes));
  return 0;
}
