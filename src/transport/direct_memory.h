// Memory of a machine that the other end of a connection reads by itself, without this machine's processor. Only some
// streams can (RDMA); the others say so by having neither of the two.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"

namespace hecaton {

// The side whose memory is read.
class MemoryExposer {
 public:
  // While it lives, the peer of this one connection may read the memory, which must stay where it is.
  class Exposure {
   public:
    virtual ~Exposure() = default;
    virtual uint32_t key() const = 0;
  };

  virtual ~MemoryExposer() = default;
  // The peer addresses the memory from `address` on; both are multiples of the page size. All of it is taken from the
  // machine at once. Must end before the stream. Error: kSystem, the machine or its RDMA device refused.
  virtual Result<std::unique_ptr<Exposure>> expose(std::span<std::byte> memory, uint64_t address) = 0;
};

// The side that reads.
class DirectReader {
 public:
  struct Piece {
    uint64_t address;  // at the peer
    uint32_t key;
    std::byte* into;  // within local_memory()
    uint32_t bytes;
  };
  static constexpr size_t kMaxPieces = 40;
  static constexpr uint32_t kMaxTags = 1024;

  virtual ~DirectReader() = default;
  // Memory for reads to land in; once, and lives as long as the stream.
  virtual Result<std::span<std::byte>> local_memory(size_t bytes) = 0;
  // Reads all pieces, then yields `tag` (below kMaxTags, not in use) from next_done(). False: no room for more, or the
  // connection is over; nothing is read.
  virtual bool read(uint32_t tag, std::span<const Piece> pieces) = 0;
  // Done since the stream's last receive().
  virtual std::optional<uint32_t> next_done() = 0;
};

}  // namespace hecaton
