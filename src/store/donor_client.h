// One connection to one donor: handshake, requests out, replies in.
//
// Owned and used by one thread, and its buffers with it. Nothing is allocated after open_region(), except by the rare
// requests and as LinkBuffers says. Over TCP replies come in the order of the requests; over RDMA, pages that were read
// without the donor's help come when they come.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "store/direct_reads.h"
#include "store/link_buffers.h"
#include "transport/stream.h"
#include "wire/frame.h"

namespace hecaton {

class DonorClient {
 public:
  // Says hello. On error `detail` gets the donor's own words, if it said any. `buffers` must outlive it.
  static Result<DonorClient> handshake(std::unique_ptr<Stream> stream, wire::Role role, uint64_t client_instance,
                                       LinkBuffers& buffers, Deadline by, std::string* detail);
  // All later page requests of this connection are for this region.
  Result<void> open_region(const wire::OpenRegion& open, Deadline by, std::string* detail);

  const wire::HelloReply& donor() const { return donor_; }
  uint64_t region_id() const { return region_id_; }  // see wire::OpenReply
  int fd() const { return stream_->fd(); }
  // It waits for no answer, and has no part of one.
  bool idle() const { return unanswered_ == 0 && !buffer_; }
  // How long a donor may refuse to take a request before it counts as dead.
  void set_send_patience(int64_t ms) { send_patience_ms_ = ms; }
  // Pages that are read over RDMA without the donor's help are added to it.
  void count_direct_pages_in(std::atomic<uint64_t>* counter) { direct_pages_ = counter; }

  // Requests; `request_id` comes back with the reply. They block only while the kernel takes no more bytes, at most
  // until a donor that does not read has been silent for too long (kTimeout).
  Result<void> send_read(uint64_t request_id, std::span<const PageNumber> pages);
  // `pages` are the bytes of the entries, in their order; pieces may join neighbours.
  Result<void> send_write(uint64_t request_id, std::span<const wire::PageEntry> entries, std::span<const iovec> pages);
  Result<void> send_discard(uint64_t request_id, std::span<const PageRun> runs);
  // Sets the region's reservation, up or down; the body of the reply is for decode_reserve().
  Result<void> send_reserve(uint64_t request_id, uint64_t reserve_bytes);

  // The VM needs the region no more: told without waiting, and then the answer waited for, past all others. Error: it
  // cannot be sent at once, the connection ended, or the deadline passed; then the donor keeps the region for a while.
  Result<void> send_close();
  Result<void> await_close(Deadline by);
  // What the donor lends, and to whom. Only while no answer is awaited.
  Result<wire::StatReply> stat(Deadline by);
  bool has_region() const { return region_ != 0; }

  // Reads what has arrived and hands each whole frame to `take(header, body)`, whose Result<void> error ends it.
  // Returns the number of frames. Error: the connection ended or broke the protocol.
  template <typename Take>
  Result<size_t> receive(Take&& take);

 private:
  DonorClient(std::unique_ptr<Stream> stream, LinkBuffers& buffers) : stream_(std::move(stream)), buffers_(&buffers) {}
  Result<void> send_frame(wire::FrameHeader header, std::span<const iovec> body);
  Result<void> send_pieces(std::span<iovec> pieces, size_t bytes);  // uses the pieces up
  Result<std::vector<std::byte>> exchange(wire::Operation operation, std::span<const std::byte> body, Deadline by,
                                          wire::FrameHeader* reply, std::string* detail);
  // A whole frame at the front of the buffer, or null.
  Result<bool> next_frame(wire::FrameHeader* header, std::span<const std::byte>* body);
  // Moves a partial frame to the front; without one, the buffer goes back to where it came from.
  void drop_consumed();
  Result<void> ask_to_map(ExtentNumber extent);
  // Hands a whole frame to `take`, unless it is this connection's own affair: true if it was handed over.
  template <typename Take>
  Result<bool> deliver(const wire::FrameHeader& header, std::span<const std::byte> body, Take& take);
  template <typename Take>
  Result<size_t> receive_direct(Take& take);

  static constexpr uint64_t kMapId = UINT64_MAX - 1;

  std::unique_ptr<Stream> stream_;
  wire::Role role_ = wire::Role::kControl;
  std::unique_ptr<DirectReads> direct_;  // over RDMA; ends before the stream
  std::atomic<uint64_t>* direct_pages_ = nullptr;
  LinkBuffers* buffers_;
  wire::HelloReply donor_;
  uint32_t region_ = 0;
  uint64_t region_id_ = 0;
  int64_t send_patience_ms_ = 10'000;
  uint64_t unanswered_ = 0;
  LinkBuffers::Buffer buffer_;  // received, not yet consumed: [begin_, end_); none while there is nothing
  size_t begin_ = 0, end_ = 0;
};

template <typename Take>
Result<size_t> DonorClient::receive(Take&& take) {
  size_t frames = 0;
  const size_t capacity = buffers_->buffer_bytes();
  for (;;) {
    if (!buffer_) buffer_ = buffers_->take();
    // The stream first: it looks at what the device has done.
    IoResult got = stream_->receive({buffer_.get() + end_, capacity - end_});
    if (got.kind == IoResult::Kind::kClosed) return Error{ErrorCode::kClosed, 0, "the donor closed the connection"};
    if (direct_) frames += HEC_TRY(receive_direct(take));
    if (got.kind == IoResult::Kind::kWouldBlock) {
      drop_consumed();
      return frames;
    }
    const bool all_there = end_ + got.bytes < capacity;  // a short read: nothing more waits in the socket
    end_ += got.bytes;
    wire::FrameHeader header;
    std::span<const std::byte> body;
    while (HEC_TRY(next_frame(&header, &body))) {
      if (unanswered_ > 0) --unanswered_;
      if (HEC_TRY(deliver(header, body, take))) ++frames;
    }
    drop_consumed();
    if (all_there) return frames;
  }
}

template <typename Take>
Result<bool> DonorClient::deliver(const wire::FrameHeader& header, std::span<const std::byte> body, Take& take) {
  if (direct_ && header.operation == wire::Operation::kMapExtent) {
    HEC_TRY(direct_->on_map_reply(header.status, body));
    return false;
  }
  HEC_TRY(take(header, body));
  return true;
}

template <typename Take>
Result<size_t> DonorClient::receive_direct(Take& take) {
  size_t reads = 0;
  while (std::optional<DirectReads::Done> done = direct_->next_done()) {
    ++reads;
    if (unanswered_ > 0) --unanswered_;
    HEC_TRY(take(wire::FrameHeader{wire::Operation::kReadPages, wire::Status::kOk,
                                   static_cast<uint32_t>(done->body.size()), region_, done->request_id},
                 done->body));
  }
  return reads;
}

}  // namespace hecaton
