#include "transport/rdma_stream.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/log.h"

namespace hecaton {
namespace {

constexpr uint32_t kMostMessageBytes = 64 * 1024;  // so that copying the next overlaps with sending this one
constexpr uint32_t kMostNotes = 16;                // unread by the peer at once; a window makes at most half as many
constexpr uint32_t kMostReadPieces = 1024;
constexpr int kReadsAtOnce = 16;  // in the device; the others wait there
constexpr int kEndPatienceMs = 100;

class MemoryExposure final : public MemoryExposer::Exposure {
 public:
  explicit MemoryExposure(RdmaRegistration registration) : registration_(std::move(registration)) {}
  uint32_t key() const override { return registration_->rkey; }

 private:
  RdmaRegistration registration_;
};

}  // namespace

Result<std::unique_ptr<RdmaStream>> RdmaStream::prepare(RdmaEvents events, RdmaId id, Side side) {
  Poller ready = HEC_TRY(Poller::create());
  WakeFlag leftover = HEC_TRY(WakeFlag::create());
  OwnedFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!timer.valid()) return system_error("timerfd_create");
  std::unique_ptr<RdmaStream> stream(
      new RdmaStream(side, std::move(events), std::move(id), std::move(ready), std::move(leftover), std::move(timer)));
  HEC_TRY(stream->ask_device());
  HEC_TRY(stream->create_queues());
  HEC_TRY(stream->watch_descriptors());
  HEC_TRY(stream->start_timer());
  return stream;
}

RdmaStream::RdmaStream(Side side, RdmaEvents events, RdmaId id, Poller ready, WakeFlag leftover, OwnedFd timer)
    : side_(side),
      events_(std::move(events)),
      id_(std::move(id)),
      ready_(std::move(ready)),
      leftover_(std::move(leftover)),
      timer_(std::move(timer)),
      send_(0, 0) {}

Result<void> RdmaStream::ask_device() {
  ibv_device_attr can{};
  if (int error = ibv_query_device(id_->verbs, &can)) return Error{ErrorCode::kSystem, error, "asking the RDMA device"};
  const int most = side_ == Side::kReads ? can.max_qp_init_rd_atom : can.max_qp_rd_atom;
  reads_at_once_ = static_cast<uint8_t>(std::clamp(most, 0, kReadsAtOnce));
  return {};
}

Result<void> RdmaStream::create_queues() {
  ibv_context* device = id_->verbs;
  domain_.reset(ibv_alloc_pd(device));
  if (!domain_) return system_error("allocating an RDMA protection domain");
  completions_ = HEC_TRY(create_rdma_completions(device));
  const uint32_t sends = wire::kMostRingMessages + kMostNotes + 1 + (side_ == Side::kReads ? kMostReadPieces : 0);
  const uint32_t receives = kRingMessages + kMostNotes;
  queue_.reset(ibv_create_cq(device, static_cast<int>(sends + receives), nullptr, completions_.get(), 0));
  if (!queue_) return system_error("creating an RDMA completion queue");
  ibv_qp_init_attr wanted{};
  wanted.send_cq = wanted.recv_cq = queue_.get();
  wanted.qp_type = IBV_QPT_RC;
  wanted.cap = {
      .max_send_wr = sends, .max_recv_wr = receives, .max_send_sge = 1, .max_recv_sge = 1, .max_inline_data = 0};
  if (rdma_create_qp(id_.get(), domain_.get(), &wanted) != 0) return system_error("creating an RDMA queue pair");
  queue_pair_.reset(id_.get());
  ring_ = HEC_TRY(RdmaMemory::create(domain_.get(), kRingBytes, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE));
  wire::encode({reinterpret_cast<uint64_t>(ring_.data()), ring_.registration->rkey, kRingBytes, kRingMessages}, offer_);
  if (!post_receives(receives)) return Error{ErrorCode::kSystem, errno, "posting RDMA receives"};
  if (int error = ibv_req_notify_cq(queue_.get(), 0)) return Error{ErrorCode::kSystem, error, "RDMA notification"};
  return {};
}

rdma_conn_param RdmaStream::parameters() const {
  rdma_conn_param parameters{};
  parameters.private_data = offer_.data();
  parameters.private_data_len = offer_.size();
  parameters.initiator_depth = side_ == Side::kReads ? reads_at_once_ : uint8_t{0};
  parameters.responder_resources = side_ == Side::kIsRead ? reads_at_once_ : uint8_t{0};
  parameters.retry_count = 7;
  parameters.rnr_retry_count = 7;  // for ever: a peer that keeps no receives posted only holds up itself
  return parameters;
}

Result<void> RdmaStream::set_peer(const wire::RingOffer& offer) {
  peer_ = offer;
  copy_ = HEC_TRY(RdmaMemory::create(domain_.get(), offer.bytes, 0));
  send_ = SendWindow(offer.bytes, offer.messages);
  return {};
}

RdmaStream::~RdmaStream() {
  if (queue_pair_) finish_sending();
}

// There is no end of one direction alone. The peer finds what was sent before it finds the end.
bool RdmaStream::finish_sending() {
  if (posts_ > 0 && !closed_) wait_for_posts();
  rdma_disconnect(id_.get());
  return !closed_;
}

// The last words of a connection, a refusal say, are still on their way when their sender lets go of it.
void RdmaStream::wait_for_posts() {
  Deadline by = Deadline::after_ms(kEndPatienceMs);
  while (posts_ > 0 && !closed_ && !by.passed()) {
    settle();
    pollfd waiting{completions_->fd, POLLIN, 0};
    if (posts_ > 0) poll(&waiting, 1, 1);
    poll_device();
  }
}

IoResult RdmaStream::receive(std::span<std::byte> into) {
  if (receive_.readable().bytes == 0) poll_device();
  if (receive_.readable().bytes == 0) settle();
  size_t bytes = copy_out(into);
  tell_what_was_read();
  mark_leftover(receive_.readable().bytes > 0);  // reads that are done are asked for next
  if (bytes > 0) return {IoResult::Kind::kBytes, bytes};
  return {closed_ ? IoResult::Kind::kClosed : IoResult::Kind::kWouldBlock, 0};
}

size_t RdmaStream::copy_out(std::span<std::byte> into) {
  size_t bytes = 0;
  for (RingPlace place = receive_.readable(); place.bytes > 0 && bytes < into.size(); place = receive_.readable()) {
    const uint32_t part = static_cast<uint32_t>(std::min<size_t>(place.bytes, into.size() - bytes));
    std::memcpy(into.data() + bytes, ring_.data() + place.offset, part);
    receive_.took(part);
    bytes += part;
  }
  return bytes;
}

void RdmaStream::tell_what_was_read() {
  const uint32_t messages = receive_.to_tell();
  if (messages == 0 || notes_ == kMostNotes || closed_) return;
  ibv_send_wr note{};
  note.wr_id = number_of(Work::kNote);
  note.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  note.imm_data = htonl(wire::encode_ring_note({wire::RingNote::Kind::kRead, messages}));
  note.wr.rdma = {peer_.address, peer_.key};
  post(note);
  ++notes_;
  receive_.told();
}

// Keeps fd() ready while there is something to take that the device will not tell of again.
void RdmaStream::mark_leftover(bool something) {
  if (something == marked_) return;
  marked_ = something;
  something ? leftover_.raise() : leftover_.clear();
}

IoResult RdmaStream::send(std::span<const iovec> pieces) {
  size_t sent = 0, left = 0;
  for (const iovec& piece : pieces) left += piece.iov_len;
  const iovec* from = pieces.data();
  size_t from_at = 0;
  while (left > 0 && !closed_) {
    const RingPlace place = room_for(std::min<size_t>(left, kMostMessageBytes));
    if (place.bytes == 0) break;
    for (uint32_t filled = 0; filled < place.bytes;) {
      const size_t part = std::min<size_t>(from->iov_len - from_at, place.bytes - filled);
      std::memcpy(copy_.data() + place.offset + filled, static_cast<const std::byte*>(from->iov_base) + from_at, part);
      filled += static_cast<uint32_t>(part);
      from_at += part;
      if (from_at == from->iov_len) ++from, from_at = 0;
    }
    post_message(place);
    sent += place.bytes;
    left -= place.bytes;
  }
  // While it is blocked the mark would make its caller spin: what is left is marked when all was sent.
  if (left == 0) mark_leftover(receive_.readable().bytes > 0 || !done_.empty());
  if (sent > 0) return {IoResult::Kind::kBytes, sent};
  return {closed_ ? IoResult::Kind::kClosed : IoResult::Kind::kWouldBlock, 0};
}

void RdmaStream::post_message(RingPlace place) {
  ibv_sge bytes{reinterpret_cast<uint64_t>(copy_.data() + place.offset), place.bytes, copy_.registration->lkey};
  ibv_send_wr request{};
  request.wr_id = number_of(Work::kPost);
  request.sg_list = &bytes;
  request.num_sge = 1;
  request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  request.imm_data = htonl(wire::encode_ring_note({wire::RingNote::Kind::kArrived, place.bytes}));
  request.wr.rdma = {peer_.address + place.offset, peer_.key};
  post(request);
  send_.posted(place.bytes);
  ++posts_;
}

RingPlace RdmaStream::room_for(size_t wanted) {
  RingPlace place = send_.next(wanted);
  if (place.bytes == 0) {
    poll_device();
    place = send_.next(wanted);
  }
  if (place.bytes == 0) {
    mark_leftover(false);
    settle();
    place = send_.next(wanted);
  }
  return place;
}

void RdmaStream::post(ibv_send_wr& request) {
  request.send_flags |= IBV_SEND_SIGNALED;
  ibv_send_wr* refused = nullptr;
  if (ibv_post_send(id_->qp, &request, &refused) != 0) closed_ = true;
}

bool RdmaStream::post_receives(uint32_t count) {
  std::array<ibv_recv_wr, 64> requests;
  while (count > 0) {
    const uint32_t part = std::min<uint32_t>(count, requests.size());
    for (uint32_t i = 0; i < part; ++i) {
      requests[i] = ibv_recv_wr{number_of(Work::kReceive), i + 1 < part ? &requests[i + 1] : nullptr, nullptr, 0};
    }
    ibv_recv_wr* refused = nullptr;
    if (int error = ibv_post_recv(id_->qp, requests.data(), &refused)) {
      errno = error;
      return false;
    }
    count -= part;
  }
  return true;
}

// Takes what the device has finished.
void RdmaStream::poll_device() {
  std::array<ibv_wc, 32> done;
  for (;;) {
    const int count = ibv_poll_cq(queue_.get(), static_cast<int>(done.size()), done.data());
    if (count < 0) closed_ = true;
    if (count <= 0) return;
    event_due_ = true;
    uint32_t received = 0;
    for (int i = 0; i < count; ++i) {
      received += done[static_cast<size_t>(i)].wr_id == number_of(Work::kReceive) ? 1 : 0;
      handle(done[static_cast<size_t>(i)]);
    }
    if (!closed_ && received > 0 && !post_receives(received)) closed_ = true;
    if (static_cast<size_t>(count) < done.size()) return;
  }
}

void RdmaStream::handle(const ibv_wc& done) {
  if (done.status != IBV_WC_SUCCESS) {
    // Flushed: the consequence of an end that is known, or is about to be.
    if (!closed_ && done.status != IBV_WC_WR_FLUSH_ERR) {
      event_log().info("RDMA connection broken: {}", ibv_wc_status_str(done.status));
    }
    closed_ = true;
    return;
  }
  switch (static_cast<Work>(done.wr_id >> 32)) {
    case Work::kPost:
      --posts_;
      send_.completed();
      break;
    case Work::kNote:
      --notes_;
      break;
    case Work::kProbe:
      probing_ = false;
      break;
    case Work::kRead:
      read_pieces_ -= reads_.pop();
      done_.push(static_cast<uint32_t>(done.wr_id));
      break;
    case Work::kReceive:
      handle_note(done);
      break;
  }
}

void RdmaStream::handle_note(const ibv_wc& done) {
  bool good = done.opcode == IBV_WC_RECV_RDMA_WITH_IMM;
  Result<wire::RingNote> note = wire::decode_ring_note(good ? ntohl(done.imm_data) : 0);
  good = note.ok() && (note->kind == wire::RingNote::Kind::kArrived ? receive_.arrived(note->count)
                                                                    : send_.read_by_peer(note->count));
  if (good) return;
  event_log().info("RDMA connection closed: the peer broke the protocol of its ring");
  closed_ = true;
}

Result<std::span<std::byte>> RdmaStream::local_memory(size_t bytes) {
  HEC_CHECK(!landing_.memory.valid());
  landing_ = HEC_TRY(RdmaMemory::create(domain_.get(), bytes, IBV_ACCESS_LOCAL_WRITE));
  return std::span(landing_.data(), bytes);
}

bool RdmaStream::read(uint32_t tag, std::span<const Piece> pieces) {
  HEC_CHECK(tag < kMaxTags && !pieces.empty() && pieces.size() <= kMaxPieces);
  if (closed_ || reads_.full() || pieces.size() > kMostReadPieces - read_pieces_) return false;
  std::array<ibv_sge, kMaxPieces> into;
  std::array<ibv_send_wr, kMaxPieces> requests;
  for (size_t i = 0; i < pieces.size(); ++i) {
    into[i] = {reinterpret_cast<uint64_t>(pieces[i].into), pieces[i].bytes, landing_.registration->lkey};
    requests[i] = {};
    requests[i].wr_id = number_of(Work::kRead, tag);
    requests[i].next = i + 1 < pieces.size() ? &requests[i + 1] : nullptr;
    requests[i].sg_list = &into[i];
    requests[i].num_sge = 1;
    requests[i].opcode = IBV_WR_RDMA_READ;
    requests[i].wr.rdma = {pieces[i].address, pieces[i].key};
  }
  requests[pieces.size() - 1].send_flags = IBV_SEND_SIGNALED;  // reads of a connection end in order
  ibv_send_wr* refused = nullptr;
  if (ibv_post_send(id_->qp, requests.data(), &refused) != 0) {
    closed_ = true;  // some may be under way
    return false;
  }
  reads_.push(static_cast<uint32_t>(pieces.size()));
  read_pieces_ += static_cast<uint32_t>(pieces.size());
  return true;
}

std::optional<uint32_t> RdmaStream::next_done() {
  if (done_.empty()) return std::nullopt;
  return done_.pop();
}

Result<std::unique_ptr<MemoryExposer::Exposure>> RdmaStream::expose(std::span<std::byte> memory, uint64_t address) {
  // Local write is not for the peer: it makes the kernel hand the device the very pages that we write to.
  constexpr unsigned kAccess = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ;
  RdmaRegistration registration(ibv_reg_mr_iova(domain_.get(), memory.data(), memory.size(), address, kAccess));
  if (!registration) return system_error("registering memory for RDMA (see ulimit -l)");
  return std::unique_ptr<Exposure>(std::make_unique<MemoryExposure>(std::move(registration)));
}

}  // namespace hecaton
