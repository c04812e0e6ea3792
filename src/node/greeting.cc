#include "node/greeting.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <string>

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
constexpr Error kWantsTls{ErrorCode::kUntrusted, 0,
                          "it wants TLS: give this node the same token or certificates as the others"};
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
  std::string text = fmt::format("hecaton nodes, version {}", wire::kNodeLinkVersion);
  const auto add = [&](std::span<const std::byte> bytes) {
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  text += static_cast<char>(maker);
  add(hellos.caller);
  add(hellos.callee);
  std::array<std::byte, 32> bound{};
  (void)stream.bind(bound);  // zeros where there is no TLS
  add(bound);
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

Result<void> check_proof(const Greeting& mine, Maker maker, const Hellos& hellos, const Stream& stream,
                         const Proof& theirs) {
  const Proof right = HEC_TRY(prove(mine, maker, hellos, stream));
  // In constant time: how far a guess is right is nobody's business.
  if (CRYPTO_memcmp(theirs.data(), right.data(), right.size()) != 0) return kOtherSecret;
  return {};
}

// On a fresh connection, that little always has room.
Result<void> send_now(Stream& stream, std::span<const std::byte> bytes) {
  return send_all(stream, bytes, Deadline::after_ms(0));
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
  const auto [word, rest] = std::pair(std::span(hellos.callee).first<wire::kWantsTls.size()>(),
                                      std::span(hellos.callee).subspan<wire::kWantsTls.size()>());
  HEC_TRY(receive_all(stream, word, by));
  if (std::ranges::equal(word, wire::kWantsTls)) return kWantsTls;
  HEC_TRY(receive_all(stream, rest, by));
  const wire::NodeHello theirs = HEC_TRY(wire::decode_node_hello(hellos.callee));
  HEC_TRY(check_same_vm(mine, theirs));
  if (theirs.node != to || theirs.lane != lane) return kOtherNumber;
  const Proof proof = HEC_TRY(prove(mine, Maker::kCaller, hellos, stream));
  HEC_TRY(send_all(stream, proof, by));
  Proof answer{};
  HEC_TRY(receive_all(stream, answer, by));
  if (answer == wire::kTurnedAway) return kTurnedAway;
  return check_proof(mine, Maker::kCallee, hellos, stream, answer);
}

std::optional<NodeId> Answer::claimed() const {
  return theirs_ ? std::optional(theirs_->node) : std::nullopt;
}

// Whether it is whole.
Result<bool> Answer::fill(Stream& stream, std::span<std::byte> whole) {
  while (filled_ < whole.size()) {
    const size_t bytes = HEC_TRY(receive_now(stream, whole.subspan(filled_)));
    if (bytes == 0) return false;
    filled_ += bytes;
  }
  filled_ = 0;
  return true;
}

Result<void> Answer::answer_hello(Stream& stream) {
  theirs_ = HEC_TRY(wire::decode_node_hello(caller_));
  // Before any refusal: the caller can tell its user what differs, too.
  callee_ = hello_of(mine_, theirs_->lane);
  HEC_TRY(send_now(stream, callee_));
  HEC_TRY(check_same_vm(mine_, *theirs_));
  if (theirs_->node <= mine_.self || theirs_->node.value >= nodes_) return kOtherNumber;
  return {};
}

Result<std::optional<Caller>> Answer::advance(Stream& stream) {
  if (!theirs_) {
    if (!HEC_TRY(fill(stream, caller_))) return std::optional<Caller>();
    HEC_TRY(answer_hello(stream));
  }
  if (!HEC_TRY(fill(stream, proof_))) return std::optional<Caller>();
  const Hellos hellos{caller_, callee_};
  if (Result<void> proven = check_proof(mine_, Maker::kCaller, hellos, stream, proof_); !proven.ok()) {
    (void)send_now(stream, wire::kTurnedAway);
    return proven.error();
  }
  const Proof proof = HEC_TRY(prove(mine_, Maker::kCallee, hellos, stream));
  HEC_TRY(send_now(stream, proof));
  return std::optional(Caller{theirs_->node, theirs_->lane});
}

}  // namespace hecaton::node
