// decode_open_region: a region it takes is possible, and encodes to the same bytes.
#include "fuzz.h"
#include "wire/frame.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto body = fuzz::bytes_of(data, size);
  auto open = wire::decode_open_region(body);
  if (!open.ok()) return 0;
  HEC_CHECK(open->region_bytes != 0 && open->region_bytes % kPageBytes == 0);
  HEC_CHECK(open->region_bytes <= wire::kMaxRegionBytes);
  HEC_CHECK(!open->name.empty() && open->name.size() <= wire::kMaxNameBytes);
  fuzz::check_same(body, encode(*open));
  return 0;
}
