// decode_stat_reply: what it takes encodes to the same bytes.
#include "fuzz.h"
#include "wire/frame.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto body = fuzz::bytes_of(data, size);
  if (auto stat = wire::decode_stat_reply(body); stat.ok()) fuzz::check_same(body, encode(*stat));
  return 0;
}
