// A way through the pieces of a send.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "base/check.h"

namespace hecaton {

// A place in pieces, which must outlive it.
class PieceCursor {
 public:
  explicit PieceCursor(std::span<const iovec> pieces) : pieces_(pieces) { skip_empty(); }

  bool at_end() const { return piece_ == pieces_.size(); }
  // What lies together from here on.
  std::span<const std::byte> front() const {
    const iovec& piece = pieces_[piece_];
    return {static_cast<const std::byte*>(piece.iov_base) + offset_, piece.iov_len - offset_};
  }
  // All bytes from here on.
  size_t left() const {
    size_t bytes = 0;
    for (size_t i = piece_; i < pieces_.size(); ++i) bytes += pieces_[i].iov_len;
    return bytes - offset_;
  }
  bool is_last() const { return piece_ + 1 == pieces_.size(); }
  void advance(size_t bytes) {
    while (bytes > 0) {
      HEC_CHECK(!at_end());
      const size_t step = std::min(bytes, pieces_[piece_].iov_len - offset_);
      offset_ += step;
      bytes -= step;
      skip_empty();
    }
  }
  // Copies up to into.size() bytes and goes behind them; how many there were.
  size_t gather(std::span<std::byte> into) {
    size_t filled = 0;
    while (filled < into.size() && !at_end()) {
      const std::span<const std::byte> part = front().first(std::min(front().size(), into.size() - filled));
      std::memcpy(into.data() + filled, part.data(), part.size());
      filled += part.size();
      advance(part.size());
    }
    return filled;
  }

 private:
  void skip_empty() {
    while (!at_end() && offset_ == pieces_[piece_].iov_len) {
      ++piece_;
      offset_ = 0;
    }
  }
  std::span<const iovec> pieces_;
  size_t piece_ = 0, offset_ = 0;
};

}  // namespace hecaton
