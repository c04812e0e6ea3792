#include "donor/outbox.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace hecaton::donor {

void Outbox::send(std::span<const iovec> pieces) {
  HEC_CHECK(!pending());
  if (broken_) return;
  size_t total = 0;
  for (const iovec& piece : pieces) total += piece.iov_len;
  IoResult result = sink_.send(pieces);
  if (result.kind == IoResult::Kind::kClosed) broken_ = true;
  // A part means that the peer takes no more for now: no second try.
  if (!broken_ && result.bytes < total) keep(pieces, result.bytes, total - result.bytes);
}

void Outbox::keep(std::span<const iovec> pieces, size_t skip, size_t bytes) {
  unsent_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
  first_ = 0;
  end_ = 0;
  for (const iovec& piece : pieces) {
    size_t skipped = std::min(skip, piece.iov_len);
    skip -= skipped;
    std::memcpy(unsent_.get() + end_, static_cast<const std::byte*>(piece.iov_base) + skipped, piece.iov_len - skipped);
    end_ += piece.iov_len - skipped;
  }
  HEC_CHECK(end_ == bytes);
}

void Outbox::flush() {
  if (!pending()) return;
  iovec rest{unsent_.get() + first_, end_ - first_};
  IoResult result = sink_.send(std::span(&rest, 1));
  if (result.kind == IoResult::Kind::kClosed) broken_ = true;
  first_ += result.bytes;
  if (broken_ || first_ == end_) unsent_.reset();
}

}  // namespace hecaton::donor
