#include "donor/frame_buffer.h"

#include <cstring>

#include "base/check.h"

namespace hecaton::donor {

void FrameBuffer::append(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  std::memcpy(space(bytes.size()).data(), bytes.data(), bytes.size());
  arrived(bytes.size());
}

std::span<std::byte> FrameBuffer::space(size_t more) {
  if (capacity_ - end_ < more) {
    size_t kept = end_ - first_;
    // Not cleared: a frame that is announced and never sent must not cost its whole length in memory.
    auto grown = std::make_unique_for_overwrite<std::byte[]>(kept + more);
    if (kept != 0) std::memcpy(grown.get(), data_.get() + first_, kept);
    data_ = std::move(grown);
    capacity_ = kept + more;
    first_ = 0;
    end_ = kept;
  }
  return {data_.get() + end_, more};
}

void FrameBuffer::drop(size_t bytes) {
  HEC_CHECK(bytes <= end_ - first_);
  first_ += bytes;
  if (!empty()) return;
  data_.reset();
  capacity_ = first_ = end_ = 0;
}

}  // namespace hecaton::donor
