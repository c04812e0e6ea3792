// A byte stream over RDMA, and one-sided reads beside it. wire/rdma.h draws the protocol.
//
// Each side writes stream bytes into the other's ring: first into a copy of that ring on this side, which the device
// reads from, so that the caller's memory need not be registered. ring_window.h says where. A receive copies bytes out
// of the ring once; what the peer does to its ring afterwards reaches nobody.
//
// fd() is ready, level-triggered, when receive() or a blocked send() has something to do. It stands for the device's
// completions, the connection's events, a timer, and a flag for what was taken from the device and not yet given away.
// Threads: one at a time, as for every stream.
#pragma once

#include <array>

#include "os/poller.h"
#include "transport/direct_memory.h"
#include "transport/rdma_handles.h"
#include "transport/ring_window.h"
#include "transport/stream.h"
#include "wire/rdma.h"

namespace hecaton {

class RdmaStream final : public Stream, public DirectReader, public MemoryExposer {
 public:
  enum class Side : uint8_t { kReads, kIsRead };

  // Everything but the connection itself. `id` has its device; it and `events` are of each other.
  static Result<std::unique_ptr<RdmaStream>> prepare(RdmaEvents events, RdmaId id, Side side);
  ~RdmaStream() override;

  rdma_cm_id* id() const { return id_.get(); }
  // For rdma_connect or rdma_accept; valid as long as the stream.
  rdma_conn_param parameters() const;
  // Held until the stream ends: so its maker can count those that live.
  void hold(std::shared_ptr<const void> ticket) { ticket_ = std::move(ticket); }
  // What the other side offers; before the first send.
  Result<void> set_peer(const wire::RingOffer& offer);

  IoResult receive(std::span<std::byte> into) override;
  IoResult send(std::span<const iovec> pieces) override;
  int fd() const override { return ready_.fd(); }
  short send_events() const override { return POLLIN; }
  bool finish_sending() override;
  DirectReader* direct_reader() override { return side_ == Side::kReads ? this : nullptr; }
  MemoryExposer* memory_exposer() override { return side_ == Side::kIsRead ? this : nullptr; }

  Result<std::span<std::byte>> local_memory(size_t bytes) override;
  bool read(uint32_t tag, std::span<const Piece> pieces) override;
  std::optional<uint32_t> next_done() override;

  Result<std::unique_ptr<Exposure>> expose(std::span<std::byte> memory, uint64_t address) override;

 private:
  static constexpr uint32_t kRingBytes = 512 * 1024;
  static constexpr uint32_t kRingMessages = 512;

  // What a completion is of: the upper half of its number; the lower is a tag.
  enum class Work : uint32_t { kPost = 1, kNote, kProbe, kRead, kReceive };
  static constexpr uint64_t number_of(Work work, uint32_t tag = 0) { return static_cast<uint64_t>(work) << 32 | tag; }

  RdmaStream(Side side, RdmaEvents events, RdmaId id, Poller ready, WakeFlag leftover, OwnedFd timer);
  Result<void> ask_device();
  Result<void> create_queues();
  Result<void> watch_descriptors();
  Result<void> start_timer();
  bool post_receives(uint32_t count);
  void poll_device();
  void handle(const ibv_wc& done);
  void handle_note(const ibv_wc& done);
  void settle();
  void take_device_event();
  void look_at_descriptors();
  void handle_connection_events();
  RingPlace room_for(size_t wanted);
  size_t copy_out(std::span<std::byte> into);
  void tell_what_was_read();
  void post_message(RingPlace place);
  void post(ibv_send_wr& request);
  void probe_peer();
  void mark_leftover(bool something);
  void wait_for_posts();

  const Side side_;
  uint8_t reads_at_once_ = 0;
  std::shared_ptr<const void> ticket_;
  RdmaEvents events_;
  RdmaId id_;
  RdmaDomain domain_;
  RdmaCompletions completions_;
  RdmaQueue queue_;
  RdmaMemory ring_, copy_, landing_;
  std::array<std::byte, wire::kRingOfferBytes> offer_{};
  RdmaQueuePair queue_pair_;  // ends before the memory it uses
  Poller ready_;
  WakeFlag leftover_;
  OwnedFd timer_;

  wire::RingOffer peer_;
  SendWindow send_;
  ReceiveWindow receive_{kRingBytes, kRingMessages};
  MessageQueue reads_{kMaxTags};  // one-sided reads under way: how many pieces each has
  MessageQueue done_{kMaxTags};   // tags of those that are done
  uint32_t read_pieces_ = 0;      // of all of `reads_`
  uint32_t posts_ = 0, notes_ = 0;
  bool probing_ = false;
  bool event_due_ = false;  // the device has, or is about to have, an event for completions that were seen
  bool marked_ = false;     // leftover_ is raised
  bool closed_ = false;
  int64_t looked_ns_ = 0;
};

}  // namespace hecaton
