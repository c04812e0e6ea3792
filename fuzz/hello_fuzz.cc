// decode_hello and decode_hello_reply: what they take encodes to the same bytes.
#include "fuzz.h"
#include "wire/frame.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto body = fuzz::bytes_of(data, size);
  if (auto hello = wire::decode_hello(body); hello.ok()) fuzz::check_same(body, encode(*hello));
  if (auto reply = wire::decode_hello_reply(body); reply.ok()) {
    auto again = encode(*reply);
    HEC_CHECK(again.size() == body.size());  // not the same bytes: what fills it up is not looked at
    HEC_CHECK(wire::decode_hello_reply(again)->donor_instance == reply->donor_instance);
  }
  return 0;
}
