#include "store/donor_client.h"

#include <poll.h>

#include <algorithm>
#include <cstring>

#include "base/version.h"

namespace hecaton {
namespace {

constexpr size_t kMaxPieces = wire::kMaxPagesPerFrame + 2;

iovec piece_of(std::span<const std::byte> bytes) {
  return iovec{const_cast<std::byte*>(bytes.data()), bytes.size()};
}

ErrorCode code_of(wire::Status status) {
  switch (status) {
    case wire::Status::kFull:
    case wire::Status::kResources:
      return ErrorCode::kFull;
    case wire::Status::kBusy:
      return ErrorCode::kBusy;
    case wire::Status::kRefused:
      return ErrorCode::kPermission;
    case wire::Status::kVersion:
      return ErrorCode::kUnsupported;
    default:
      return ErrorCode::kProtocol;
  }
}

}  // namespace

Result<DonorClient> DonorClient::handshake(std::unique_ptr<Stream> stream, wire::Role role, uint64_t client_instance,
                                           LinkBuffers& buffers, Deadline by, std::string* detail) {
  DonorClient client(std::move(stream), buffers);
  wire::Hello hello{wire::kProtocolVersion, wire::kProtocolVersion, role, client_instance, kVersion};
  wire::FrameHeader reply;
  auto body = HEC_TRY(client.exchange(wire::Operation::kHello, wire::encode(hello), by, &reply, detail));
  client.donor_ = HEC_TRY(wire::decode_hello_reply(body));
  client.role_ = role;
  return client;
}

Result<void> DonorClient::open_region(const wire::OpenRegion& open, Deadline by, std::string* detail) {
  wire::FrameHeader reply;
  auto body = HEC_TRY(exchange(wire::Operation::kOpenRegion, wire::encode(open), by, &reply, detail));
  region_id_ = HEC_TRY(wire::decode_open_reply(body)).region_id;
  if (reply.region == 0) return Error{ErrorCode::kProtocol, 0, "the donor opened the region without a handle"};
  region_ = reply.region;
  DirectReader* reader = stream_->direct_reader();
  const auto shape = DirectReads::shape_for(role_);
  if (!reader || !shape) return {};
  const uint64_t extents = std::min(extents_in(pages_in(open.reserve_bytes)), extents_in(pages_in(open.region_bytes)));
  direct_ = HEC_TRY(DirectReads::create(*reader, *shape, extents));
  return {};
}

Result<std::vector<std::byte>> DonorClient::exchange(wire::Operation operation, std::span<const std::byte> body,
                                                     Deadline by, wire::FrameHeader* reply, std::string* detail) {
  iovec piece = piece_of(body);
  HEC_TRY(send_frame({operation, wire::Status::kRequest, 0, region_, 1}, std::span(&piece, 1)));
  std::array<std::byte, wire::kHeaderBytes> head;
  HEC_TRY(receive_all(*stream_, head, by));
  *reply = HEC_TRY(wire::decode_header(head));
  std::vector<std::byte> answer(reply->body_bytes);
  HEC_TRY(receive_all(*stream_, answer, by));
  if (reply->status == wire::Status::kRequest)
    return Error{ErrorCode::kProtocol, 0, "it sent a request, not an answer"};
  if (reply->operation != operation) return Error{ErrorCode::kProtocol, 0, "the donor answered something else"};
  if (reply->status != wire::Status::kOk) {
    if (detail) *detail = wire::decode_text(answer);
    return Error{code_of(reply->status), 0, wire::name_of(reply->status)};
  }
  return answer;
}

Result<void> DonorClient::send_frame(wire::FrameHeader header, std::span<const iovec> body) {
  std::array<iovec, kMaxPieces + 1> pieces;
  size_t count = 1, left = 0;
  for (const iovec& piece : body) {
    if (piece.iov_len == 0) continue;
    HEC_CHECK(count < pieces.size());
    pieces[count++] = piece;
    left += piece.iov_len;
  }
  header.body_bytes = static_cast<uint32_t>(left);
  std::array<std::byte, wire::kHeaderBytes> head;
  wire::encode_header(header, head.data());
  pieces[0] = piece_of(head);
  return send_pieces(std::span(pieces.data(), count), left + head.size());
}

Result<void> DonorClient::send_pieces(std::span<iovec> pieces, size_t bytes) {
  // Patience is for silence, not for slowness: it begins anew with each progress.
  Deadline by = Deadline::never();
  for (size_t at = 0; bytes > 0;) {
    IoResult sent = stream_->send(pieces.subspan(at));
    if (sent.kind == IoResult::Kind::kClosed) return Error{ErrorCode::kClosed, 0, "the donor closed the connection"};
    if (sent.kind == IoResult::Kind::kWouldBlock) {
      if (by.is_never()) by = Deadline::after_ms(send_patience_ms_);
      pollfd waiting{stream_->fd(), stream_->send_events(), 0};
      if (poll(&waiting, 1, by.remaining_ms()) == 0)
        return Error{ErrorCode::kTimeout, 0, "the donor takes no requests"};
      continue;
    }
    by = Deadline::never();
    bytes -= sent.bytes;
    for (size_t done = sent.bytes; done > 0;) {
      size_t step = std::min(done, pieces[at].iov_len);
      pieces[at].iov_base = static_cast<std::byte*>(pieces[at].iov_base) + step;
      pieces[at].iov_len -= step;
      done -= step;
      if (pieces[at].iov_len == 0) ++at;
    }
  }
  return {};
}

Result<void> DonorClient::send_read(uint64_t request_id, std::span<const PageNumber> pages) {
  if (direct_ && direct_->try_read(request_id, pages)) {
    if (direct_pages_) direct_pages_->fetch_add(pages.size(), std::memory_order_relaxed);  // a figure
    ++unanswered_;
    return {};
  }
  // Header and body as one piece: that is the cheapest for the kernel to take.
  std::byte* frame = buffers_->request_head().data();
  const size_t body_bytes = wire::read_request_bytes(pages.size());
  wire::encode_header(
      {wire::Operation::kReadPages, wire::Status::kRequest, static_cast<uint32_t>(body_bytes), region_, request_id},
      frame);
  wire::encode_read_request(pages, frame + wire::kHeaderBytes);
  iovec piece{frame, wire::kHeaderBytes + body_bytes};
  ++unanswered_;
  HEC_TRY(send_pieces(std::span(&piece, 1), piece.iov_len));
  // After the read: who waits for the page need not wait for the mapping.
  return direct_ && direct_->should_map(extent_of(pages.front())) ? ask_to_map(extent_of(pages.front()))
                                                                  : Result<void>();
}

Result<void> DonorClient::ask_to_map(ExtentNumber extent) {
  auto body = wire::encode_map_extent(extent);
  iovec piece = piece_of(body);
  ++unanswered_;
  return send_frame({wire::Operation::kMapExtent, wire::Status::kRequest, 0, region_, kMapId}, std::span(&piece, 1));
}

Result<void> DonorClient::send_write(uint64_t request_id, std::span<const wire::PageEntry> entries,
                                     std::span<const iovec> pages) {
  HEC_CHECK(entries.size() <= wire::kMaxPagesPerFrame && pages.size() <= entries.size());
  std::byte* head = buffers_->request_head().data();
  wire::encode_page_set_head(entries, head);
  std::array<iovec, kMaxPieces> pieces;
  pieces[0] = iovec{head, wire::page_set_head_bytes(entries.size())};
  std::copy(pages.begin(), pages.end(), pieces.begin() + 1);
  ++unanswered_;
  return send_frame({wire::Operation::kWritePages, wire::Status::kRequest, 0, region_, request_id},
                    std::span(pieces.data(), pages.size() + 1));
}

Result<void> DonorClient::send_discard(uint64_t request_id, std::span<const PageRun> runs) {
  std::vector<std::byte> body = wire::encode_discard(runs);
  ++unanswered_;
  iovec piece = piece_of(body);
  return send_frame({wire::Operation::kDiscard, wire::Status::kRequest, 0, region_, request_id}, std::span(&piece, 1));
}

Result<void> DonorClient::send_reserve(uint64_t request_id, uint64_t reserve_bytes) {
  auto body = wire::encode_reserve(reserve_bytes);
  iovec piece = piece_of(body);
  ++unanswered_;
  return send_frame({wire::Operation::kReserve, wire::Status::kRequest, 0, region_, request_id}, std::span(&piece, 1));
}

Result<void> DonorClient::send_close() {
  std::array<std::byte, wire::kHeaderBytes> head;
  wire::encode_header({wire::Operation::kCloseRegion, wire::Status::kRequest, 0, region_, 0}, head.data());
  iovec piece = piece_of(head);
  IoResult sent = stream_->send(std::span(&piece, 1));
  if (sent.kind == IoResult::Kind::kBytes && sent.bytes == head.size()) return {};
  return Error{ErrorCode::kClosed, 0, "the donor takes no requests"};
}

Result<void> DonorClient::await_close(Deadline by) {
  for (bool closed = false; !closed;) {
    HEC_TRY(receive([&](const wire::FrameHeader& header, std::span<const std::byte>) -> Result<void> {
      closed = closed || header.operation == wire::Operation::kCloseRegion;
      return {};
    }));
    pollfd waiting{stream_->fd(), POLLIN, 0};
    if (!closed && poll(&waiting, 1, by.remaining_ms()) == 0) {
      return Error{ErrorCode::kTimeout, 0, "the donor does not answer"};
    }
  }
  return {};
}

Result<wire::StatReply> DonorClient::stat(Deadline by) {
  wire::FrameHeader reply;
  return wire::decode_stat_reply(HEC_TRY(exchange(wire::Operation::kStat, {}, by, &reply, nullptr)));
}

Result<bool> DonorClient::next_frame(wire::FrameHeader* header, std::span<const std::byte>* body) {
  if (end_ - begin_ < wire::kHeaderBytes) return false;
  *header = HEC_TRY(
      wire::decode_header(std::span<const std::byte, wire::kHeaderBytes>(buffer_.get() + begin_, wire::kHeaderBytes)));
  if (header->status == wire::Status::kRequest) return Error{ErrorCode::kProtocol, 0, "the donor sent a request"};
  size_t whole = wire::kHeaderBytes + header->body_bytes;
  if (whole > buffers_->buffer_bytes()) {
    return Error{ErrorCode::kProtocol, 0, "the donor sent a longer answer than was asked for"};
  }
  if (end_ - begin_ < whole) return false;
  *body = std::span<const std::byte>(buffer_.get() + begin_ + wire::kHeaderBytes, header->body_bytes);
  begin_ += whole;
  return true;
}

void DonorClient::drop_consumed() {
  if (begin_ > 0) std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (end_ == 0) buffers_->give(std::move(buffer_));
}

}  // namespace hecaton
