#include "node/peer_link.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "wire/frame.h"

namespace hecaton::node {
namespace {

using wire::FrameKind;

constexpr size_t kHeadBytes = wire::kLaneFrameBytes + wire::kCoherenceHeaderBytes;
// More frames than this are never under way on a lane: what was sent longer ago has been taken.
constexpr uint64_t kMostUnderWay = 1u << 24;

Error broken(const char* what) {
  return Error{ErrorCode::kProtocol, 0, what};
}

}  // namespace

PeerLink::PeerLink(NodeId peer, std::unique_ptr<Stream> urgent, std::unique_ptr<Stream> pages) : peer_(peer) {
  side(Lane::kUrgent).stream = std::move(urgent);
  side(Lane::kPages).stream = std::move(pages);
  for (Side& one : sides_) {
    one.in.resize(kInBytes);
    one.out.resize(kInBytes);  // touched, so that it is there
    one.out.clear();
  }
}

// How many frames of the other lane come before one about this page.
uint32_t PeerLink::after(Lane lane, PageNumber page) const {
  const Side& theirs = side(other(lane));
  // Not a count from so long ago that it would be taken for one to come.
  const uint64_t surely_taken = theirs.sent > kMostUnderWay ? theirs.sent - kMostUnderWay : 0;
  return static_cast<uint32_t>(std::max(theirs.last_sent[page.value % kBuckets], surely_taken));
}

void PeerLink::send(const wire::CoherenceMessage& message, const std::byte* page) {
  HEC_CHECK(!message.carries_page || page != nullptr);
  const Lane lane = message.carries_page ? Lane::kPages : Lane::kUrgent;
  Side& to = side(lane);
  std::array<std::byte, kHeadBytes> head;
  encode(wire::LaneFrame{FrameKind::kMessage, NodeId(), after(lane, message.page)},
         std::span(head).first<wire::kLaneFrameBytes>());
  const uint64_t checksum =
      message.carries_page ? wire::page_checksum({page, kPageBytes}, message.page, message.version) : 0;
  encode(message, checksum, std::span(head).last<wire::kCoherenceHeaderBytes>());
  to.last_sent[message.page.value % kBuckets] = ++to.sent;
  iovec pieces[2] = {{head.data(), head.size()}, {const_cast<std::byte*>(page), kPageBytes}};
  write(to, std::span(pieces, message.carries_page ? 2 : 1));
}

void PeerLink::send_alive() {
  Side& to = side(Lane::kUrgent);
  std::array<std::byte, wire::kLaneFrameBytes> frame;
  encode(wire::LaneFrame{FrameKind::kAlive, NodeId(), 0}, frame);
  ++to.sent;
  iovec piece{frame.data(), frame.size()};
  write(to, std::span(&piece, 1));
}

void PeerLink::send_farewell(NodeId lost) {
  Side& to = side(Lane::kUrgent);
  std::array<std::byte, wire::kLaneFrameBytes> frame;
  encode(wire::LaneFrame{FrameKind::kFarewell, lost, 0}, frame);
  ++to.sent;
  iovec piece{frame.data(), frame.size()};
  write(to, std::span(&piece, 1));
}

void PeerLink::write(Side& to, std::span<iovec> pieces) {
  size_t done = 0;
  for (const iovec& piece : pieces) bytes_sent_ += piece.iov_len;
  if (to.out_first == to.out.size()) {
    const IoResult sent = to.stream->send(pieces);
    if (sent.kind == IoResult::Kind::kClosed) ended_ = true;
    if (sent.kind == IoResult::Kind::kBytes) done = sent.bytes;
  }
  if (ended_) return;
  for (const iovec& piece : pieces) {
    const size_t skipped = std::min(done, piece.iov_len);
    done -= skipped;
    const std::byte* from = static_cast<const std::byte*>(piece.iov_base);
    to.out.insert(to.out.end(), from + skipped, from + piece.iov_len);
  }
}

void PeerLink::flush(Lane lane) {
  Side& to = side(lane);
  while (to.out_first < to.out.size()) {
    iovec piece{to.out.data() + to.out_first, to.out.size() - to.out_first};
    const IoResult sent = to.stream->send(std::span(&piece, 1));
    if (sent.kind == IoResult::Kind::kClosed) ended_ = true;
    if (sent.kind != IoResult::Kind::kBytes) return;
    to.out_first += sent.bytes;
  }
  to.out.clear();
  to.out_first = 0;
}

void PeerLink::finish_sending() {
  for (Side& one : sides_) one.stream->finish_sending();
}

bool PeerLink::receive(Lane lane) {
  Side& from = side(lane);
  if (from.in_first == from.in_end) from.in_first = from.in_end = 0;
  if (from.in.size() - from.in_end < wire::kMostFrameBytes && from.in_first > 0) {
    std::memmove(from.in.data(), from.in.data() + from.in_first, from.in_end - from.in_first);
    from.in_end -= from.in_first;
    from.in_first = 0;
  }
  const std::span room = std::span(from.in).subspan(from.in_end);
  if (room.empty()) {  // its first frame waits for the other lane
    from.more = true;
    return false;
  }
  from.more = false;
  const IoResult got = from.stream->receive(room);
  if (got.kind == IoResult::Kind::kClosed) ended_ = true;
  if (got.kind != IoResult::Kind::kBytes) return false;
  from.in_end += got.bytes;
  from.more = got.bytes == room.size();
  return true;
}

Result<std::optional<PeerLink::Arrival>> PeerLink::next(Lane lane) {
  Side& from = side(lane);
  const std::span<const std::byte> bytes = std::span(from.in).subspan(from.in_first, from.in_end - from.in_first);
  if (bytes.size() < wire::kLaneFrameBytes) return std::optional<Arrival>();
  static constexpr std::array<std::byte, kPageBytes> kNoPage{};
  Arrival arrival{HEC_TRY(wire::decode_lane_frame(bytes.first(wire::kLaneFrameBytes))), {}, PageBytes(kNoPage)};
  const uint32_t ahead = arrival.frame.after - static_cast<uint32_t>(side(other(lane)).taken);
  if (ahead != 0 && ahead < 1u << 31) {
    if (ahead > kMostUnderWay) return broken("a frame that waits for frames that cannot be under way");
    return std::optional<Arrival>();
  }
  size_t whole = wire::kLaneFrameBytes;
  if (arrival.frame.kind == FrameKind::kMessage) {
    if (bytes.size() < kHeadBytes) return std::optional<Arrival>();
    const wire::CoherenceHeader header =
        HEC_TRY(wire::decode_coherence(bytes.subspan(wire::kLaneFrameBytes, wire::kCoherenceHeaderBytes)));
    arrival.message = header.message;
    whole = kHeadBytes + (header.message.carries_page ? kPageBytes : 0);
    if (header.message.carries_page != (lane == Lane::kPages)) return broken("a message on the wrong connection");
    if (bytes.size() < whole) return std::optional<Arrival>();
    if (header.message.carries_page) {
      arrival.page = bytes.subspan(kHeadBytes).first<kPageBytes>();
      if (wire::page_checksum(arrival.page, header.message.page, header.message.version) != header.checksum) {
        return Error{ErrorCode::kCorrupt, 0, "a page came with other bytes than were sent"};
      }
    }
  } else if (lane == Lane::kPages) {
    return broken("a frame on the wrong connection");
  }
  from.in_first += whole;
  ++from.taken;
  return std::optional(arrival);
}

}  // namespace hecaton::node
