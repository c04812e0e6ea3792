// decode_discard: what it takes encodes to the same runs, and none of them wraps around.
#include "fuzz.h"
#include "wire/frame.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto body = fuzz::bytes_of(data, size);
  auto runs = wire::decode_discard(body);
  if (!runs.ok()) return 0;
  for (const PageRun& run : *runs) HEC_CHECK(run.first.value + run.count >= run.first.value);
  auto again = wire::encode_discard(*runs);
  fuzz::check_same(body.subspan(8), std::span(again).subspan(8));
  return 0;
}
