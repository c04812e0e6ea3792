// A node's answer to a caller that says anything: nothing asserts, nobody without the secret is taken for a node, and
// before a whole hello nothing is said.
//
// The input is what the caller sends, in parts: one byte for how much comes at once, then so many bytes.
#include <algorithm>

#include "base/random.h"
#include "fuzz.h"
#include "node/greeting.h"
#include "said_stream.h"

using namespace hecaton;
using namespace hecaton::node;

namespace {

// Counts what it is told.
class CallerStream final : public fuzz::SaidStream {
 public:
  IoResult send(std::span<const iovec> pieces) override {
    size_t bytes = 0;
    for (const iovec& piece : pieces) bytes += piece.iov_len;
    heard_ += bytes;
    return {IoResult::Kind::kBytes, bytes};
  }
  size_t heard() const { return heard_; }

 private:
  size_t heard_ = 0;
};

// Node 0 of four, of the VM and shape that the seeds name.
Greeting make_greeting() {
  Greeting mine;
  mine.vm = 7;
  mine.shape = 9;
  fill_random(mine.secret);
  return mine;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Greeting mine = make_greeting();
  CallerStream stream;
  Answer answer(mine, 4);
  std::span<const std::byte> bytes = fuzz::bytes_of(data, size);
  bool refused = false;
  while (!bytes.empty() && !refused) {
    const size_t part = std::min(bytes.size() - 1, std::to_integer<size_t>(bytes.front()));
    stream.say(bytes.subspan(1, part));
    bytes = bytes.subspan(1 + part);
    Result<std::optional<Caller>> who = answer.advance(stream);
    HEC_CHECK(!who.ok() || !who->has_value());
    refused = !who.ok();
    const bool whole_hello = stream.taken() >= wire::kNodeHelloBytes;
    HEC_CHECK(whole_hello || (stream.heard() == 0 && !answer.claimed()));
    HEC_CHECK(stream.heard() <= wire::kNodeHelloBytes + (refused ? wire::kTurnedAway.size() : 0));
    HEC_CHECK(stream.taken() <= wire::kNodeHelloBytes + wire::kNodeProofBytes);
  }
  return 0;
}
