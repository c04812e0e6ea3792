// decode_node_hello and decode_lane_frame: what they take is what encode() writes.
#include <array>

#include "fuzz.h"
#include "wire/node_link.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto bytes = fuzz::bytes_of(data, size);
  if (auto hello = wire::decode_node_hello(bytes); hello.ok()) {
    std::array<std::byte, wire::kNodeHelloBytes> again;
    encode(*hello, again);
    fuzz::check_same(bytes, again);
  }
  if (auto frame = wire::decode_lane_frame(bytes); frame.ok()) {
    std::array<std::byte, wire::kLaneFrameBytes> again;
    encode(*frame, again);
    fuzz::check_same(bytes, again);
  }
  return 0;
}
