// What a stranger sends to a donor with a token: nothing of it is ever taken for a host's.
#include <array>

#include "fuzz.h"
#include "transport/tls_stream.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto context = TlsContext::donor_with_token("a-token-that-the-fuzzer-does-not-know").value();
  auto [stranger, donor] = in_process_pair().value();
  auto stream = TlsStream::accept(context, std::move(donor), {});
  std::span<const std::byte> bytes = fuzz::bytes_of(data, size);
  std::array<std::byte, 256> space;
  // In two parts, so that a record may be cut anywhere.
  for (std::span<const std::byte> part : {bytes.first(size / 3), bytes.subspan(size / 3)}) {
    if (!part.empty()) (void)send_all(*stranger, part, Deadline::after_ms(0)).ok();
    HEC_CHECK(stream->receive(space).kind != IoResult::Kind::kBytes);
  }
  stranger.reset();
  for (int i = 0; i < 3; ++i) HEC_CHECK(stream->receive(space).kind != IoResult::Kind::kBytes);
  return 0;
}
