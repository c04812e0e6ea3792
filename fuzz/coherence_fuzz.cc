// decode_coherence: a message that it takes is the one that encode() writes.
#include <array>

#include "fuzz.h"
#include "wire/coherence.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto bytes = fuzz::bytes_of(data, size);
  Result<wire::CoherenceHeader> header = wire::decode_coherence(bytes);
  if (!header.ok()) return 0;
  std::array<std::byte, wire::kCoherenceHeaderBytes> again;
  wire::encode(header->message, header->checksum, again);
  fuzz::check_same(bytes, again);
  return 0;
}
