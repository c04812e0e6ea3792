// A peer's end of a connection that is the target's to play: what say() gives comes, and nothing is taken.
#pragma once

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "transport/stream.h"

namespace hecaton::fuzz {

class SaidStream : public Stream {
 public:
  void say(std::span<const std::byte> bytes) { says_ = bytes; }
  bool silent() const { return says_.empty(); }
  size_t taken() const { return taken_; }  // bytes, in all

  IoResult receive(std::span<std::byte> into) override {
    HEC_CHECK(!into.empty());
    const size_t bytes = std::min(says_.size(), into.size());
    if (bytes == 0) return {IoResult::Kind::kWouldBlock, 0};
    std::memcpy(into.data(), says_.data(), bytes);
    says_ = says_.subspan(bytes);
    taken_ += bytes;
    return {IoResult::Kind::kBytes, bytes};
  }
  IoResult send(std::span<const iovec>) override { return {IoResult::Kind::kWouldBlock, 0}; }
  int fd() const override { return -1; }
  bool finish_sending() override { return true; }

 private:
  std::span<const std::byte> says_;
  size_t taken_ = 0;
};

}  // namespace hecaton::fuzz
