// One connection to one donor: handshake, requests out, replies in.
//
// Owned and used by one thread. Nothing is allocated after open_region(), except by the rare requests. Over TCP replies
// come in the order of the requests; over RDMA, pages that were read without the donor's help come when they come.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "store/direct_reads.h"
#include "transport/stream.h"
#include "wire/frame.h"

namespace hecaton {

class DonorClient {
 public:
  // Says hello. On error `detail` gets the donor's own words, if it said any.
  static Result<DonorClient> handshake(std::unique_ptr<Stream> stream, wire::Role role, uint64_t client_instance,
                                       Deadline by, std::string* detail);
  // All later page requests of this connection are for this region.
  Result<void> open_region(const wire::OpenRegion& open, Deadline by, std::string* detail);

  const wire::HelloReply& donor() const { return donor_; }
  int fd() const { return stream_->fd(); }
  // Pages that were read over RDMA without the donor's help. Any thread.
  uint64_t direct_pages() const { return direct_pages_->load(std::memory_order_relaxed); }

  // Requests; `request_id` comes back with the reply. They block only while the kernel takes no more bytes, at most
  // until a donor that does not read has been silent for too long (kTimeout).
  Result<void> send_read(uint64_t request_id, std::span<const PageNumber> pages);
  // `pages` are the bytes of the entries, in their order; pieces may join neighbours.
  Result<void> send_write(uint64_t request_id, std::span<const wire::PageEntry> entries, std::span<const iovec> pages);
  Result<void> send_discard(uint64_t request_id, std::span<const PageRun> runs);

  // Reads what has arrived and hands each whole frame to `take(header, body)`, whose Result<void> error ends it.
  // Returns the number of frames. Error: the connection ended or broke the protocol.
  template <typename Take>
  Result<size_t> receive(Take&& take);

 private:
  explicit DonorClient(std::unique_ptr<Stream> stream);
  Result<void> send_frame(wire::FrameHeader header, std::span<const iovec> body);
  Result<std::vector<std::byte>> exchange(wire::Operation operation, std::span<const std::byte> body, Deadline by,
                                          wire::FrameHeader* reply, std::string* detail);
  // A whole frame at the front of the buffer, or null.
  Result<bool> next_frame(wire::FrameHeader* header, std::span<const std::byte>* body);
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
  std::unique_ptr<std::atomic<uint64_t>> direct_pages_ = std::make_unique<std::atomic<uint64_t>>(0);
  wire::HelloReply donor_;
  uint32_t region_ = 0;
  std::vector<std::byte> request_head_;
  std::vector<std::byte> buffer_;  // received, not yet consumed: [begin_, end_)
  size_t begin_ = 0, end_ = 0;
};

template <typename Take>
Result<size_t> DonorClient::receive(Take&& take) {
  size_t frames = 0;
  for (;;) {
    // The stream first: it looks at what the device has done.
    IoResult got = stream_->receive(std::span(buffer_).subspan(end_));
    if (got.kind == IoResult::Kind::kClosed) return Error{ErrorCode::kClosed, 0, "the donor closed the connection"};
    if (direct_) frames += HEC_TRY(receive_direct(take));
    if (got.kind == IoResult::Kind::kWouldBlock) return frames;
    const bool all_there = end_ + got.bytes < buffer_.size();  // a short read: nothing more waits in the socket
    end_ += got.bytes;
    wire::FrameHeader header;
    std::span<const std::byte> body;
    while (HEC_TRY(next_frame(&header, &body))) {
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
    HEC_TRY(take(wire::FrameHeader{wire::Operation::kReadPages, wire::Status::kOk,
                                   static_cast<uint32_t>(done->body.size()), region_, done->request_id},
                 done->body));
  }
  return reads;
}

}  // namespace hecaton
