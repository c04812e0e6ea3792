// decode_header: a header it takes is the one that encode_header writes.
#include <array>

#include "fuzz.h"
#include "wire/frame.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < wire::kHeaderBytes) return 0;
  auto bytes = fuzz::bytes_of(data, size).first<wire::kHeaderBytes>();
  Result<wire::FrameHeader> header = wire::decode_header(bytes);
  if (!header.ok()) return 0;
  HEC_CHECK(header->body_bytes <= wire::kMaxBodyBytes);
  std::array<std::byte, wire::kHeaderBytes> again;
  wire::encode_header(*header, again.data());
  fuzz::check_same(bytes, again);
  return 0;
}
