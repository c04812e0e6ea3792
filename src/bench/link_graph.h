// PageRank over a graph in one piece of memory: for each node the nodes that link to it, one after the other
// (compressed sparse rows), then how many links leave each node, the ranks, and what each node gives along each of its
// links.
//
// Source: Page, Brin, Motwani, Winograd, "The PageRank citation ranking", 1999. Pure. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace hecaton::bench {

class LinkGraph {
 public:
  // A graph that fills `bytes`, with a node for every 128 of them.
  explicit LinkGraph(uint64_t bytes);

  uint64_t nodes() const { return nodes_; }
  uint64_t links() const { return links_; }

  // Draws links whose both ends follow a power law (Zipf, skew 0.7); the same each time. Writes all of the memory.
  void generate(std::byte* memory) const;
  // Ranks from equal shares on.
  void rank(std::byte* memory, unsigned rounds) const;
  std::span<const double> ranks(const std::byte* memory) const;

 private:
  template <typename T>
  static T* at(std::byte* memory, uint64_t offset) {
    return reinterpret_cast<T*>(memory + offset);
  }
  template <typename Use>
  void for_each_link(Use use) const;

  uint64_t nodes_, links_;
  uint64_t first_at_ = 0;  // nodes + 1 of 64 bits: where each node's links begin
  uint64_t ranks_at_, gifts_at_, leaving_at_, sources_at_;
};

}  // namespace hecaton::bench
