// For tests: the other side of a Session, without sockets.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>

#include "donor/frames_for_tests.h"
#include "donor/session.h"

namespace hecaton::donor {

// A peer in memory: sends what the test says, takes as much as the test lets it, keeps what it got.
class FakePeer final : public ReplySink {
 public:
  explicit FakePeer(DonorState& donor, size_t scratch_bytes = 64 * 1024, MemoryExposer* exposer = nullptr)
      : scratch_(scratch_bytes), session(donor, *this, exposer) {}

  IoResult send(std::span<const iovec> pieces) override {
    if (gone) return {IoResult::Kind::kClosed, 0};
    size_t taken = 0;
    for (const iovec& piece : pieces) {
      size_t part = std::min(piece.iov_len, room);
      const std::byte* first = static_cast<const std::byte*>(piece.iov_base);
      got_.insert(got_.end(), first, first + part);
      taken += part;
      room -= part;
    }
    return taken == 0 ? IoResult{IoResult::Kind::kWouldBlock, 0} : IoResult{IoResult::Kind::kBytes, taken};
  }

  // Sends, in pieces of at most `piece` bytes, as long as the session reads; returns how much it read.
  size_t say(const Bytes& bytes, size_t piece = SIZE_MAX) {
    size_t at = 0;
    while (at < bytes.size() && session.wants_to_receive()) {
      std::span<std::byte> space = session.receive_space(scratch_);
      size_t part = std::min({space.size(), piece, bytes.size() - at});
      std::memcpy(space.data(), bytes.data() + at, part);
      at += part;
      session.received(space.first(part));
    }
    return at;
  }
  std::vector<Reply> replies() { return take_replies(got_); }
  // The one reply to `bytes`.
  Reply ask(const Bytes& bytes) {
    say(bytes);
    std::vector<Reply> all = replies();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? Reply{} : std::move(all[0]);
  }

  size_t room = SIZE_MAX;  // bytes the peer takes before it blocks
  bool gone = false;

 private:
  Bytes got_;
  Bytes scratch_;

 public:
  Session session;  // last: its end may send
};

}  // namespace hecaton::donor
