// A store of 1 KiB values by key, in memory that may be paged. Keys are scattered over it, so that those that are
// wanted often do not lie together. Every read is verified: the value's checksum, its key, and that it is the newest
// version.
//
// One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/units.h"

namespace hecaton::bench {

class ValueStore {
 public:
  static constexpr size_t kValueBytes = 1024;
  static constexpr uint64_t kValuesPerPage = kPageBytes / kValueBytes;

  // Writes all values.
  ValueStore(std::byte* memory, uint64_t bytes);

  uint64_t keys() const { return slots_.size(); }
  void read(uint64_t key);
  void write(uint64_t key);  // the next version
  uint64_t page_of(uint64_t key) const { return slots_[key] / kValuesPerPage; }
  uint64_t wrong() const { return wrong_; }

 private:
  struct Value {
    uint64_t checksum;  // of all that follows
    uint64_t key;
    uint64_t version;
    std::array<uint64_t, 125> words;
  };
  static_assert(sizeof(Value) == kValueBytes);

  Value& value_of(uint64_t key) const { return reinterpret_cast<Value*>(memory_)[slots_[key]]; }
  static uint64_t checksum_of(const Value& value);

  std::byte* const memory_;
  std::vector<uint32_t> slots_;     // where a key's value is
  std::vector<uint32_t> versions_;  // what a read must find
  uint64_t wrong_ = 0;
};

}  // namespace hecaton::bench
