// Replies on their way out of a connection. They are sent from where they lie; only what the peer does not take at once
// is copied, so the sender may let go of its locks as soon as send() returns.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <span>

#include "transport/stream.h"

namespace hecaton::donor {

// Where a connection's replies go.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  // Takes as many bytes as it can without waiting.
  virtual IoResult send(std::span<const iovec> pieces) = 0;
};

class Outbox {
 public:
  explicit Outbox(ReplySink& sink) : sink_(sink) {}

  // Only when nothing is pending.
  void send(std::span<const iovec> pieces);
  // Goes on with what is pending.
  void flush();
  bool pending() const { return unsent_ != nullptr; }
  // The peer is gone: whatever is sent is dropped.
  bool broken() const { return broken_; }

 private:
  void keep(std::span<const iovec> pieces, size_t skip, size_t bytes);

  ReplySink& sink_;
  std::unique_ptr<std::byte[]> unsent_;
  size_t first_ = 0;
  size_t end_ = 0;
  bool broken_ = false;
};

}  // namespace hecaton::donor
