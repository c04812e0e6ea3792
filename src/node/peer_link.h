// The two connections to another node: frames in, frames out, and the order that the coherence core needs.
//
// Within a pair of nodes, messages about one page arrive in the order in which they were sent. Each lane keeps its own;
// between the lanes the sender tells what comes first (wire/node_link.h, `after`). It does not know every page's last
// message, only that of each of kBuckets groups of pages: now and then a message waits for one that does not matter to
// it. Two lanes never wait for each other: what a frame waits for was sent before it.
//
// One thread. Allocates only when more has to wait for the peer than ever before.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "transport/stream.h"
#include "wire/node_link.h"

namespace hecaton::node {

using wire::Lane;

class PeerLink {
 public:
  using PageBytes = std::span<const std::byte, kPageBytes>;

  PeerLink(NodeId peer, std::unique_ptr<Stream> urgent, std::unique_ptr<Stream> pages);

  NodeId peer() const { return peer_; }
  Stream& stream(Lane lane) { return *side(lane).stream; }

  // At once, as far as the connection takes it; the rest is kept. `page`: if the message carries it.
  void send(const wire::CoherenceMessage& message, const std::byte* page);
  void send_alive();
  // `lost`: this node itself if it ends as it should.
  void send_farewell(NodeId lost);
  bool has_unsent(Lane lane) const { return side(lane).out_first != side(lane).out.size(); }
  void flush(Lane lane);
  void finish_sending();

  // Takes what has come on the lane. False: nothing has.
  bool receive(Lane lane);
  // There may be more than the last receive() had room for, and now there is room: nothing else may tell so.
  bool may_have_more(Lane lane) const {
    const Side& from = side(lane);
    return from.more && (from.in_first > 0 || from.in_end < from.in.size());
  }

  struct Arrival {
    wire::LaneFrame frame;
    wire::CoherenceMessage message;  // of kMessage
    PageBytes page;                  // if it carries one; good until the next receive()
  };
  // The next frame, if it is complete and its turn. Error: the peer broke the protocol, or sent other bytes than it
  // meant.
  Result<std::optional<Arrival>> next(Lane lane);

  // The connection, either of the two, has ended, and all that came before was received.
  bool ended() const { return ended_; }
  const char* why_ended() { return side(Lane::kUrgent).stream->why_closed(); }

  uint64_t bytes_sent() const { return bytes_sent_; }
  int64_t last_sent_ns() const { return last_sent_ns_; }
  void sent_at(int64_t now_ns) { last_sent_ns_ = now_ns; }

 private:
  static constexpr size_t kBuckets = 1024;
  static constexpr size_t kInBytes = 64 * 1024;

  struct Side {
    std::unique_ptr<Stream> stream;
    std::vector<std::byte> in;  // [in_first, in_end) is to be read
    size_t in_first = 0, in_end = 0;
    std::vector<std::byte> out;  // [out_first, end) is to be sent
    size_t out_first = 0;
    bool more = false;                           // what was received last filled all the room there was
    uint64_t sent = 0, taken = 0;                // frames
    std::array<uint64_t, kBuckets> last_sent{};  // number of the last frame about a page of the group
  };

  Side& side(Lane lane) { return sides_[static_cast<size_t>(lane)]; }
  const Side& side(Lane lane) const { return sides_[static_cast<size_t>(lane)]; }
  uint32_t after(Lane lane, PageNumber page) const;
  void write(Side& to, std::span<iovec> pieces);

  NodeId peer_;
  std::array<Side, wire::kLanes> sides_;
  bool ended_ = false;
  uint64_t bytes_sent_ = 0;
  int64_t last_sent_ns_ = 0;
};

}  // namespace hecaton::node
