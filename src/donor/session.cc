#include "donor/session.h"

#include <fmt/format.h>

#include "base/check.h"

namespace hecaton::donor {
namespace {

using wire::kHeaderBytes;

// How many bytes the frame that begins with `part` lacks, as far as can be seen. Its header was accepted.
size_t missing_bytes(std::span<const std::byte> part) {
  if (part.size() < kHeaderBytes) return kHeaderBytes - part.size();
  wire::FrameHeader header = wire::decode_header(part.first<kHeaderBytes>()).value();
  return kHeaderBytes + header.body_bytes - part.size();
}

}  // namespace

Session::Session(DonorState& donor, ReplySink& replies, MemoryExposer* exposer)
    : donor_(donor), outbox_(replies), requests_(donor, exposer) {
  ++donor_.connections;
}

Session::~Session() {
  --donor_.connections;
}

std::span<std::byte> Session::receive_space(std::span<std::byte> scratch) {
  HEC_CHECK(wants_to_receive());
  if (waiting_.empty()) return scratch;
  return waiting_.space(missing_bytes(waiting_.bytes()));
}

void Session::received(std::span<const std::byte> bytes) {
  HEC_CHECK(wants_to_receive());
  if (waiting_.empty()) {
    size_t handled = handle_frames(bytes);
    if (state_ == State::kOpen) waiting_.append(bytes.subspan(handled));
  } else {
    waiting_.arrived(bytes.size());
    handle_waiting();
  }
  update_state();
}

void Session::flush() {
  outbox_.flush();
  if (wants_to_receive()) handle_waiting();
  update_state();
}

void Session::close_when_sent() {
  if (state_ == State::kOpen) state_ = State::kClosing;
  update_state();
}

void Session::peer_closed() {
  peer_gone_ = true;
  update_state();
}

void Session::handle_waiting() {
  size_t handled = handle_frames(waiting_.bytes());
  waiting_.drop(handled);
}

size_t Session::handle_frames(std::span<const std::byte> bytes) {
  size_t done = 0;
  while (wants_to_receive() && bytes.size() - done >= kHeaderBytes) {
    std::optional<wire::FrameHeader> header = accept_header(bytes.subspan(done));
    if (!header || bytes.size() - done - kHeaderBytes < header->body_bytes) break;
    ++frames_;
    if (!requests_.handle(*header, bytes.subspan(done + kHeaderBytes, header->body_bytes), outbox_)) {
      state_ = State::kClosing;
    }
    done += kHeaderBytes + header->body_bytes;
  }
  return done;
}

std::optional<wire::FrameHeader> Session::accept_header(std::span<const std::byte> bytes) {
  Result<wire::FrameHeader> header = wire::decode_header(bytes.first<kHeaderBytes>());
  wire::FrameHeader answered;
  std::optional<Refusal> refusal;
  if (header.ok()) {
    answered = *header;
    refusal = requests_.check(*header);
  } else {
    refusal = Refusal{wire::Status::kMalformed, fmt::format("{}; this is a hecaton donor, protocol version {}",
                                                            header.error().context, wire::kProtocolVersion)};
  }
  if (!refusal) return answered;
  send_refusal(outbox_, answered, *refusal);
  state_ = State::kClosing;
  return std::nullopt;
}

void Session::update_state() {
  if (peer_gone() || (state_ == State::kClosing && !outbox_.pending())) state_ = State::kOver;
  if (!over()) return;
  requests_.close_regions();
  waiting_.drop(waiting_.bytes().size());
}

}  // namespace hecaton::donor
