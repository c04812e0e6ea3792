// The memory server of a donor: `hecatond`, or embedded in a process that needs a donor of its own. It can serve many
// donors at once, each with an address, an identity and regions of its own, by the same threads: for the measurement of
// large pools.
//
//   acceptor thread ── connections ──▶ worker threads (epoll; a connection stays with one)
//                                        └─ regions, by name ── ended ones ──▶ reaper thread (unmaps)
//
// Threads: start, stop and destruction by one thread; serve, address and stats by any. All of its own threads block all
// signals.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/result.h"
#include "donor/reaper.h"
#include "donor/requests.h"
#include "donor/worker.h"
#include "os/poller.h"
#include "transport/rdma.h"
#include "transport/stream.h"
#include "transport/tls_context.h"
#include "wire/node_url.h"

namespace hecaton {

enum class RdmaUse : uint8_t { kOff, kIfThere, kRequired };

struct DonorConfig {
  uint64_t lends_bytes = 0;                                     // each donor; rounded down to pages; at least one
  size_t donors = 1;                                            // more than one: the port must be 0
  NodeUrl listen{.token = {}, .host = "127.0.0.1", .port = 0};  // port 0: any that is free
  RdmaUse rdma = RdmaUse::kOff;                                 // beside TCP, on the same port number
  unsigned threads = 0;              // that serve connections; 0: one per processor, at most 16
  std::string backing = {};          // a directory for the pages; empty: they are kept in memory. No RDMA then
  int64_t grace_ms = 0;              // for regions whose host lost its connections; then they are freed
  uint64_t max_connections = 16384;  // each donor serves at once; more are refused with a text
  int64_t frame_limit_ms = 10'000;   // for proofs and hello, and for the rest of a frame before a region is open
  size_t max_strangers = 0;          // connections without a hello; 0: 4096, or 256 with TLS, where each costs more
  int64_t stop_limit_ms = 2'000;     // for the replies in flight when it stops
  std::shared_ptr<const TlsContext> tls = {};  // a donor's: every connection must use it; null: none can
};

// Of all its donors together.
struct DonorStats {
  uint64_t lends_bytes, reserved_bytes, used_bytes;  // used: page bytes held
  uint64_t regions, connections;
  uint64_t lingering_regions, lingering_bytes;  // of VMs that lost their connections; reserved
  unsigned threads;                             // that serve connections
};

class DonorServer {
 public:
  // Listens and serves when it returns. Error: kInvalidArgument (nothing to lend), kUnavailable (the listen address's
  // name is not known), kSystem with the errno of binding it, kNotFound
  // (RDMA is required and the machine, or that address of it, has none). If it is the backing, `problem` says it in
  // words for the user; else it stays empty.
  static Result<std::unique_ptr<DonorServer>> start(const DonorConfig& config, std::string* problem = nullptr);
  ~DonorServer();  // stops

  // Where a donor listens; the port is the real one.
  const NodeUrl& address(size_t donor = 0) const { return donors_[donor]->address; }
  size_t donors() const { return donors_.size(); }
  // What the disk under the backing has free; 0 without one.
  uint64_t backing_free_bytes() const { return backing_ ? backing_->free_bytes() : 0; }
  DonorStats stats() const;
  // Whether the donor listens for RDMA too.
  bool serves_rdma(size_t donor = 0) const { return donors_[donor]->serves_rdma; }
  // Serves a connection to the first donor that was made by other means than its listener.
  void serve(std::unique_ptr<Stream> stream) { serve(std::move(stream), *donors_.front()); }

  // Takes no more connections or requests, sends the replies in flight (for stop_limit_ms at most), frees all regions.
  void stop();

 private:
  struct Donor {
    Donor(const DonorConfig& config, donor::Reaper& reaper, donor::Backing* backing, TcpListener takes);
    donor::DonorState state;
    const NodeUrl address;
    Result<void> listen_for_rdma(RdmaUse use);
    // The next of either listener that waits; null if none does.
    Result<std::unique_ptr<Stream>> next_connection() const;
    std::optional<TcpListener> listener;  // acceptor thread; until stopped
    std::optional<RdmaListener> rdma;     // the same
    bool serves_rdma = false;             // never changed after start
  };

  DonorServer(const DonorConfig& config, std::unique_ptr<donor::Reaper> reaper, Poller poller, WakeFlag wake);
  Result<void> listen(const DonorConfig& config);
  Result<void> start_threads(const DonorConfig& config);
  // With TLS, `stream` is what lies under it.
  void serve(std::unique_ptr<Stream> stream, Donor& donor);
  void accept_connections();
  // False: the machine has no descriptor or memory for one more; try again later.
  bool accept_waiting(Donor& donor);
  void warn_of(const Error& error);
  void end_lingering();

  const std::shared_ptr<const TlsContext> tls_;
  const std::vector<std::byte> to_plain_;    // what is sent to a peer that does not use TLS
  std::unique_ptr<donor::Backing> backing_;  // outlives the regions; null: they are in memory
  std::unique_ptr<donor::Reaper> reaper_;    // outlives the regions
  std::vector<std::unique_ptr<Donor>> donors_;
  Poller poller_;
  WakeFlag wake_;
  std::vector<std::unique_ptr<donor::Worker>> workers_;
  std::atomic<size_t> next_worker_{0};
  std::atomic<bool> stopping_{false};
  int64_t last_warning_ns_ = 0;  // acceptor thread
  std::thread acceptor_;
};

}  // namespace hecaton
