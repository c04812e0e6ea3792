// The bookkeeping of a stream that goes through rings of memory (wire/rdma.h): what may be written where, what has
// arrived, what has been read. Numbers only: no memory, no I/O.
//
// A message is a piece of the stream that one write carries; it never passes the end of the ring. Messages are read in
// order, so a count of them is all that the reader has to tell.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <vector>

namespace hecaton {

struct RingPlace {
  uint32_t offset = 0;
  uint32_t bytes = 0;  // 0: nothing
};

// The lengths of the messages on their way, oldest first.
class MessageQueue {
 public:
  explicit MessageQueue(uint32_t most) : lengths_(most) {}
  bool full() const { return count_ == lengths_.size(); }
  bool empty() const { return count_ == 0; }
  uint32_t size() const { return count_; }
  uint32_t front() const { return lengths_[first_]; }
  void push(uint32_t bytes);  // only if it is not full
  uint32_t pop();             // only if it is not empty

 private:
  std::vector<uint32_t> lengths_;
  uint32_t first_ = 0, count_ = 0;
};

// The writer's view of the other side's ring, and of its own copy of it, from which the writes are made.
class SendWindow {
 public:
  SendWindow(uint32_t ring_bytes, uint32_t most_messages);

  // Where the next message of at most `wanted` bytes may go; empty if none may go now.
  RingPlace next(uint64_t wanted) const;
  // It was posted there.
  void posted(uint32_t bytes);
  // The oldest post is done: its bytes are read no more on this side.
  void completed();
  // The other side has read `messages` more. False: it claims more than were sent.
  [[nodiscard]] bool read_by_peer(uint32_t messages);

 private:
  void free_space();

  uint32_t ring_bytes_;
  MessageQueue on_their_way_;
  uint32_t at_ = 0;                    // where the next message goes
  uint32_t used_ = 0;                  // bytes before it that are not free yet
  uint32_t completed_ = 0, read_ = 0;  // messages of the queue, from its front, of which this is known
};

// The reader's view of its own ring.
class ReceiveWindow {
 public:
  ReceiveWindow(uint32_t ring_bytes, uint32_t most_messages);

  // A message has arrived. False: it can't have, the writer broke the protocol.
  [[nodiscard]] bool arrived(uint32_t bytes);
  // The next bytes to read, in one piece; empty if there are none.
  RingPlace readable() const;
  // The first `bytes` of readable() were read.
  void took(uint32_t bytes);
  // Messages whose space the writer should be told of now: 0 while it has enough of it left.
  uint32_t to_tell() const;
  // It was.
  void told();

 private:
  const uint32_t ring_bytes_, most_messages_;
  MessageQueue waiting_;
  uint32_t at_ = 0;               // where the next byte to read is
  uint32_t end_ = 0;              // where the next message will be
  uint32_t used_ = 0;             // bytes that have arrived and whose space was not given back
  uint32_t front_taken_ = 0;      // bytes of the oldest message that were read
  uint32_t untold_messages_ = 0;  // read as a whole, and the writer does not know
  uint32_t untold_bytes_ = 0;
};

}  // namespace hecaton
