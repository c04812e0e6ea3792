// The buffers of connections that one thread uses. They share them: a connection has a receive buffer only while a part
// of a frame is in it, so that ten thousand idle donors cost no buffers.
//
// One thread. It allocates only when more connections than ever before have a partial frame at once; prepare() makes
// that impossible where nothing may be allocated.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "wire/frame.h"

namespace hecaton {

class LinkBuffers {
 public:
  using Buffer = std::unique_ptr<std::byte[]>;

  // Frames of at most `frame_bytes` will arrive.
  explicit LinkBuffers(size_t frame_bytes)
      : bytes_(frame_bytes), request_head_(wire::kHeaderBytes + wire::page_set_head_bytes(wire::kMaxPagesPerFrame)) {}

  // Has `count` buffers ready.
  void prepare(size_t count) {
    while (made_ < count) free_.push_back(make());
  }
  // The one that was given back last: the warmest.
  Buffer take() {
    if (free_.empty()) return make();
    Buffer buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }
  void give(Buffer buffer) { free_.push_back(std::move(buffer)); }

  size_t buffer_bytes() const { return bytes_; }
  size_t made() const { return made_; }
  // For the fixed part of a request, until it is sent.
  std::span<std::byte> request_head() { return request_head_; }

 private:
  Buffer make() {
    ++made_;
    // A give never allocates. Twice as many, or a thousand buffers would be a thousand moves of the list.
    if (free_.capacity() < made_) free_.reserve(std::max<size_t>(16, 2 * made_));
    return std::make_unique_for_overwrite<std::byte[]>(bytes_);  // not cleared: untouched memory costs nothing
  }

  const size_t bytes_;
  size_t made_ = 0;
  std::vector<Buffer> free_;
  std::vector<std::byte> request_head_;
};

}  // namespace hecaton
