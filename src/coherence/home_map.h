// Which node is the home of a page: the one in whose range of guest memory it lies. Each node has one range of page
// numbers, in the order of the nodes; it may be empty.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "base/node_id.h"
#include "base/units.h"

namespace hecaton::coherence {

class HomeMap {
 public:
  // `pages`: how many each node has.
  explicit HomeMap(std::span<const uint64_t> pages) : nodes_(pages.size()) {
    HEC_CHECK(!pages.empty() && pages.size() <= kMostNodes);
    for (size_t i = 0; i < nodes_; ++i) ends_[i] = (i == 0 ? 0 : ends_[i - 1]) + pages[i];
  }

  size_t nodes() const { return nodes_; }
  uint64_t pages() const { return ends_[nodes_ - 1]; }
  bool has(PageNumber page) const { return page.value < pages(); }
  // Of a page that it has.
  NodeId home_of(PageNumber page) const {
    HEC_CHECK(has(page));
    auto end = ends_.begin() + static_cast<ptrdiff_t>(nodes_);
    return NodeId(static_cast<size_t>(std::upper_bound(ends_.begin(), end, page.value) - ends_.begin()));
  }
  PageRun range_of(NodeId node) const {
    const uint64_t first = node.value == 0 ? 0 : ends_[node.value - 1u];
    return {PageNumber(first), ends_[node.value] - first};
  }

 private:
  size_t nodes_;
  std::array<uint64_t, kMostNodes> ends_{};
};

}  // namespace hecaton::coherence
