// Bounds-checked little-endian reading and writing of frame bodies.
#pragma once

#include <bit>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace hecaton::wire {

static_assert(std::endian::native == std::endian::little,
              "the wire is little-endian, and so are the machines we run on");

// Writes into a buffer of known size; running over its end is our own bug.
class Writer {
 public:
  explicit Writer(std::span<std::byte> out) : out_(out) {}

  template <typename T>
  void put(T value) {
    HEC_CHECK(at_ + sizeof value <= out_.size());
    std::memcpy(out_.data() + at_, &value, sizeof value);
    at_ += sizeof value;
  }

 private:
  std::span<std::byte> out_;
  size_t at_ = 0;
};

// Writes into a buffer that grows. For the rare frames.
class Growing {
 public:
  template <typename T>
  void put(T value) {
    const std::byte* first = reinterpret_cast<const std::byte*>(&value);
    out_.insert(out_.end(), first, first + sizeof value);
  }
  void bytes(std::span<const std::byte> data) { out_.insert(out_.end(), data.begin(), data.end()); }
  // Length (16 bits) and bytes; cut at `most`.
  void text(std::string_view value, size_t most) {
    value = value.substr(0, most);
    put<uint16_t>(static_cast<uint16_t>(value.size()));
    bytes(std::as_bytes(std::span(value.data(), value.size())));
  }
  std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

// Reads peer data: past the end it yields zeros and remembers that it failed.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> in) : in_(in) {}

  template <typename T>
  T get() {
    T value{};
    if (need(sizeof value)) {
      std::memcpy(&value, in_.data() + at_, sizeof value);
      at_ += sizeof value;
    }
    return value;
  }
  void bytes(std::span<std::byte> out) {
    if (!need(out.size())) return;
    std::memcpy(out.data(), in_.data() + at_, out.size());
    at_ += out.size();
  }
  // Printable ASCII only, at most `most` bytes; anything else fails.
  std::string text(size_t most) {
    uint16_t length = get<uint16_t>();
    if (length > most || !need(length)) {
      failed_ = true;
      return {};
    }
    std::string value(reinterpret_cast<const char*>(in_.data() + at_), length);
    at_ += length;
    for (char c : value) failed_ = failed_ || c < 0x20 || c > 0x7e;
    return value;
  }
  // Everything was there and nothing is left.
  bool finished() const { return !failed_ && at_ == in_.size(); }

 private:
  bool need(size_t bytes) {
    if (failed_ || in_.size() - at_ < bytes) failed_ = true;
    return !failed_;
  }
  std::span<const std::byte> in_;
  size_t at_ = 0;
  bool failed_ = false;
};

}  // namespace hecaton::wire
