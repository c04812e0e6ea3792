// Where the demand reads of a fault thread go, and what becomes of them when donors fail: its connections to donors,
// without its userfaultfd and its sleep. FaultLoop drives it, and so does the simulation of tests/sim/paging.
//
// One thread. Allocates nothing once all donors are known.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <vector>

#include "pager/fault_server.h"
#include "pager/loop_context.h"
#include "store/read_router.h"
#include "store/silence_watch.h"

namespace hecaton {

class ReadRoutes {
 public:
  // Called for each new connection, which is to be watched under that number.
  using Watch = std::function<Result<void>(int fd, size_t donor)>;
  ReadRoutes(LoopContext context, unsigned shard, FaultServer& server, Watch watch);

  // As FaultBackend's.
  bool start_read(PageNumber page, uint32_t slot, bool again);
  bool wait_for_copy(PageNumber page, uint32_t slot);

  // Donors have changed, or a connection has ended: see_changes() comes before anything else.
  bool changes_due() const {
    return context_.pool.states().changes() != seen_changes_ || !ended_.empty() || hopeless_parked_;
  }
  void see_changes();
  // Reads the answers that have arrived. True if there were any.
  bool read_replies();
  // That connection has something to say, though it may owe nothing.
  void read_unasked(size_t donor);
  // After reading what has arrived: finds silent donors, and asks others in place of slow ones.
  void check_patience();

  bool any_under_way() const { return router_.any_under_way(); }
  bool any_owed() const { return watch_.any_owed(); }
  bool any_waits() const { return !waiting_donors_.empty(); }
  int64_t last_answer_ns() const { return last_answer_ns_; }
  // While an answer is taken: whose it is, as a user knows it.
  std::string answering_donor() const { return context_.pool.url(answering_).printable(); }

 private:
  bool send_read(uint32_t slot, std::optional<size_t> avoid);
  bool ask(uint32_t slot, size_t donor);
  Result<void> take_reply(size_t donor, const wire::FrameHeader& header, std::span<const std::byte> body);
  void hedge();
  void connection_ended(size_t donor, const Error& error);
  void drop(size_t donor);
  void retry_parked();
  bool nobody_left(uint32_t slot) const;

  LoopContext context_;
  const unsigned shard_;
  FaultServer& server_;
  const Watch watch_link_;
  SilenceWatch watch_;
  std::vector<size_t> waiting_donors_;  // those that owe an answer
  ReadRouter router_;
  std::array<PageNumber, FaultServer::kSlots> reading_;  // the page of each slot
  std::vector<uint32_t> parked_;                         // slots that nobody can be asked for now
  bool hopeless_parked_ = false;                         // among them one that nobody will ever have
  std::vector<size_t> ended_;  // donors whose connection has ended, to be dropped when none is in use
  size_t known_donors_ = 0;    // are waited for
  uint64_t seen_changes_ = 0;  // of the donors' states
  int64_t last_answer_ns_ = 0;
  size_t answering_ = 0;  // donor
};

}  // namespace hecaton
