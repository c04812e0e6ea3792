// One connection of a donor, without its socket: bytes in, replies out. No I/O, no thread, no clock.
//
//   open ── malformed frame, refused hello, close_when_sent() ──▶ closing ── reply sent ──▶ over
//     └───────────────────────── peer gone ─────────────────────────────────────────────────▶ over
//
// Frames are handled in order, where they arrived if they are whole; the connection owns a buffer only while a frame or
// a reply is partial. While a reply is unsent nothing more is read or handled: back-pressure.
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "donor/frame_buffer.h"
#include "donor/outbox.h"
#include "donor/requests.h"

namespace hecaton::donor {

class Session {
 public:
  // All must outlive it. `exposer`: null if the peer cannot read memory by itself.
  Session(DonorState& donor, ReplySink& replies, MemoryExposer* exposer = nullptr);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Where the next bytes are to be put: `scratch`, or the end of the frame it holds. Only if wants_to_receive().
  std::span<std::byte> receive_space(std::span<std::byte> scratch);
  // They were put there: the first of that space. Answers the frames that are whole now.
  void received(std::span<const std::byte> bytes);
  // Sends what is unsent, then goes on with frames that waited for it.
  void flush();
  // No more requests are handled; over once the reply on its way is sent.
  void close_when_sent();
  // The peer sends no more.
  void peer_closed();

  bool wants_to_send() const { return outbox_.pending(); }
  bool wants_to_receive() const { return state_ == State::kOpen && !outbox_.pending() && !peer_gone(); }
  // Nothing is left to do but to close.
  bool over() const { return state_ == State::kOver; }
  bool peer_gone() const { return peer_gone_ || outbox_.broken(); }

  // The peer owes bytes and may be hurried: its hello, or the rest of a frame before it has a region open. The pager of
  // a running VM may be stopped in the middle of a frame, for a debugger or a suspended machine; it costs a frame's
  // memory, and the kernel's keepalive finds it if it is dead.
  bool awaits_rest() const {
    return wants_to_receive() && !requests_.has_region() && (!requests_.greeted() || !waiting_.empty());
  }
  // Frames handled so far: tells one partial frame from the next.
  uint64_t frames() const { return frames_; }
  wire::Role role() const { return requests_.role(); }
  bool greeted() const { return requests_.greeted(); }

 private:
  enum class State : uint8_t { kOpen, kClosing, kOver };

  // Handles the whole frames at the start of `bytes`; returns how many bytes those were.
  size_t handle_frames(std::span<const std::byte> bytes);
  // The header at the start of `bytes`; none: it was refused, and so is the connection.
  std::optional<wire::FrameHeader> accept_header(std::span<const std::byte> bytes);
  void handle_waiting();
  void update_state();

  DonorState& donor_;
  Outbox outbox_;
  Requests requests_;
  FrameBuffer waiting_;  // if wants_to_receive(): the beginning of one frame
  uint64_t frames_ = 0;
  bool peer_gone_ = false;
  State state_ = State::kOpen;
};

}  // namespace hecaton::donor
