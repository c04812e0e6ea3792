#include "node/greeting.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <string_view>

#include "base/random.h"

namespace hecaton::node {
namespace {

using HelloBytes = std::array<std::byte, wire::kNodeHelloBytes>;
using Proof = std::array<std::byte, wire::kNodeProofBytes>;

constexpr Error kOtherSecret{ErrorCode::kUntrusted, 0,
                             "it does not know this VM's secret: give all nodes of the VM the same one"};
constexpr Error kTurnedAway{ErrorCode::kUntrusted, 0,
                            "it turned this node away, as one that does not know the secret of its VM: give all nodes "
                            "of the VM the same one"};
constexpr Error kOtherVm{ErrorCode::kUntrusted, 0,
                         "it is of another VM, or of another start of this one: end it, and start all nodes together"};
constexpr Error kOtherShape{ErrorCode::kProtocol, 0,
                            "it divides guest memory otherwise: give all nodes the same sizes, in the same order"};
constexpr Error kOtherNumber{ErrorCode::kProtocol, 0,
                             "it has another number than expected: give all nodes the same list of nodes"};

// Both sides of a connection make other proofs of the same hellos, so neither can be told the other's as its own.
enum class Maker : uint8_t { kCaller = 1, kCallee = 2 };

struct Hellos {
  HelloBytes caller{}, callee{};
};

Result<Proof> prove(const Greeting& mine, Maker maker, const Hellos& hellos, const Stream& stream) {
  constexpr std::string_view kLabel = "hecaton nodes, version 2";
  std::array<std::byte, kLabel.size() + 1 + 2 * wire::kNodeHelloBytes + 32> text{};
  auto at = std::transform(kLabel.begin(), kLabel.end(), text.begin(), [](char c) { return std::byte(c); });
  *at++ = std::byte(maker);
  at = std::copy(hellos.caller.begin(), hellos.caller.end(), at);
  at = std::copy(hellos.callee.begin(), hellos.callee.end(), at);
  (void)stream.bind(std::span(text).last<32>());  // zeros where there is no TLS
  Proof proof{};
  unsigned int bytes = 0;
  const auto* made = HMAC(EVP_sha256(), mine.secret.data(), static_cast<int>(mine.secret.size()),
                          reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                          reinterpret_cast<unsigned char*>(proof.data()), &bytes);
  if (made == nullptr || bytes != proof.size()) {
    return Error{ErrorCode::kUnsupported, 0, "this machine's OpenSSL has no HMAC-SHA-256"};
  }
  return proof;
}

Result<void> send_proof(const Greeting& mine, Maker maker, const Hellos& hellos, Stream& stream, Deadline by) {
  const Proof proof = HEC_TRY(prove(mine, maker, hellos, stream));
  return send_all(stream, proof, by);
}

Result<void> check_proof(const Greeting& mine, Maker maker, const Hellos& hellos, Stream& stream, Deadline by) {
  Proof theirs{};
  HEC_TRY(receive_all(stream, theirs, by));
  const Proof right = HEC_TRY(prove(mine, maker, hellos, stream));
  // In constant time: how far a guess is right is nobody's business.
  if (CRYPTO_memcmp(theirs.data(), right.data(), right.size()) != 0) return kOtherSecret;
  return {};
}

HelloBytes hello_of(const Greeting& mine, Lane lane) {
  wire::NodeHello hello{lane, mine.self, mine.vm, mine.shape, {}};
  fill_random(hello.nonce);
  HelloBytes bytes{};
  encode(hello, bytes);
  return bytes;
}

Result<void> check_same_vm(const Greeting& mine, const wire::NodeHello& theirs) {
  if (theirs.vm != mine.vm) return kOtherVm;
  if (theirs.shape != mine.shape) return kOtherShape;
  return {};
}

}  // namespace

Result<void> greet_callee(const Greeting& mine, Stream& stream, NodeId to, Lane lane, Deadline by) {
  Hellos hellos{hello_of(mine, lane), {}};
  HEC_TRY(send_all(stream, hellos.caller, by));
  HEC_TRY(receive_all(stream, hellos.callee, by));
  const wire::NodeHello theirs = HEC_TRY(wire::decode_node_hello(hellos.callee));
  HEC_TRY(check_same_vm(mine, theirs));
  if (theirs.node != to || theirs.lane != lane) return kOtherNumber;
  HEC_TRY(send_proof(mine, Maker::kCaller, hellos, stream, by));
  Result<void> proven = check_proof(mine, Maker::kCallee, hellos, stream, by);
  // It heard our hello, and found nothing wrong with it: only the proof is left.
  if (!proven.ok() && proven.error().code == ErrorCode::kClosed) return kTurnedAway;
  return proven;
}

Result<Caller> greet_caller(const Greeting& mine, Stream& stream, size_t nodes, Deadline by,
                            std::optional<NodeId>* claimed) {
  Hellos hellos;
  HEC_TRY(receive_all(stream, hellos.caller, by));
  const wire::NodeHello theirs = HEC_TRY(wire::decode_node_hello(hellos.caller));
  *claimed = theirs.node;
  // Before any refusal: the caller can tell its user what differs, too.
  hellos.callee = hello_of(mine, theirs.lane);
  HEC_TRY(send_all(stream, hellos.callee, by));
  HEC_TRY(check_same_vm(mine, theirs));
  if (theirs.node <= mine.self || theirs.node.value >= nodes) return kOtherNumber;
  HEC_TRY(check_proof(mine, Maker::kCaller, hellos, stream, by));
  HEC_TRY(send_proof(mine, Maker::kCallee, hellos, stream, by));
  return Caller{theirs.node, theirs.lane};
}

}  // namespace hecaton::node
