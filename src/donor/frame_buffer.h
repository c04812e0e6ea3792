// The bytes of frames that arrived but could not be handled yet. Owns memory only while there are such bytes.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace hecaton::donor {

class FrameBuffer {
 public:
  bool empty() const { return first_ == end_; }
  std::span<const std::byte> bytes() const { return {data_.get() + first_, end_ - first_}; }

  // Copies `bytes` behind those there are.
  void append(std::span<const std::byte> bytes);
  // Room for `more` bytes behind those there are; say arrived() for as many as were put there.
  std::span<std::byte> space(size_t more);
  void arrived(size_t bytes) { end_ += bytes; }
  // Forgets the first `bytes`.
  void drop(size_t bytes);

 private:
  std::unique_ptr<std::byte[]> data_;
  size_t capacity_ = 0;
  size_t first_ = 0;
  size_t end_ = 0;
};

}  // namespace hecaton::donor
