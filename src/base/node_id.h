// Nodes of an aggregate VM: their numbers, and sets of them in one word.
#pragma once

#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>

#include "base/check.h"

namespace hecaton {

inline constexpr size_t kMostNodes = 64;

// 0 … kMostNodes - 1. A number that a peer names is checked before it becomes one.
struct NodeId {
  uint8_t value = 0;

  constexpr NodeId() = default;
  constexpr explicit NodeId(size_t v) : value(static_cast<uint8_t>(v)) { HEC_CHECK(v < kMostNodes); }
  constexpr auto operator<=>(const NodeId&) const = default;
};

class NodeSet {
 public:
  constexpr NodeSet() = default;
  constexpr explicit NodeSet(uint64_t bits) : bits_(bits) {}
  static constexpr NodeSet of(NodeId node) { return NodeSet(uint64_t{1} << node.value); }

  constexpr bool operator==(const NodeSet&) const = default;
  constexpr uint64_t bits() const { return bits_; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr size_t size() const { return static_cast<size_t>(std::popcount(bits_)); }
  constexpr bool has(NodeId node) const { return (bits_ >> node.value & 1) != 0; }
  [[nodiscard]] constexpr NodeSet with(NodeId node) const { return NodeSet(bits_ | of(node).bits_); }
  [[nodiscard]] constexpr NodeSet without(NodeId node) const { return NodeSet(bits_ & ~of(node).bits_); }
  [[nodiscard]] constexpr NodeSet without(NodeSet others) const { return NodeSet(bits_ & ~others.bits_); }
  // Of a set that is not empty.
  constexpr NodeId lowest() const {
    HEC_CHECK(!empty());
    return NodeId(static_cast<size_t>(std::countr_zero(bits_)));
  }

  template <typename Use>
  constexpr void for_each(Use use) const {
    for (uint64_t left = bits_; left != 0; left &= left - 1) use(NodeId(static_cast<size_t>(std::countr_zero(left))));
  }

 private:
  uint64_t bits_ = 0;
};

}  // namespace hecaton
