// Connecting over RDMA. The streams that come of it are like any other, and have one-sided reads besides.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transport/rdma_handles.h"
#include "transport/stream.h"

namespace hecaton {

// What keeps this machine from using RDMA: what is not there, and what to do about it.
struct RdmaProblem {
  const char* missing;
  const char* remedy;
  bool has_device;  // but it cannot be used
};
std::optional<RdmaProblem> rdma_problem();
// The names of this machine's RDMA devices.
std::vector<std::string> rdma_devices();

// Connects within the deadline. Error: kNotFound (this machine cannot: rdma_problem() says more, or none of its devices
// reaches that address), kUnavailable (nobody listens there, unknown name), kTimeout.
Result<std::unique_ptr<Stream>> connect_rdma(const NodeUrl& to, Deadline by);

class RdmaListener {
 public:
  // Each takes memory that is pinned, a megabyte or two, before its peer has said a word.
  static constexpr long kMostConnections = 1024;

  // Error: kNotFound, this machine, or this address of it, has no RDMA device.
  static Result<RdmaListener> listen(const NodeUrl& at);
  // The next waiting connection; null if none waits. Those that are not ours, and those that are more than
  // kMostConnections at once, are refused. Error: this machine lacks something.
  Result<std::unique_ptr<Stream>> accept() const;
  int fd() const { return events_->fd; }

 private:
  RdmaListener(RdmaEvents events, RdmaId id) : events_(std::move(events)), id_(std::move(id)) {}
  RdmaEvents events_;
  RdmaId id_;
  std::shared_ptr<int> tickets_ = std::make_shared<int>();  // every stream holds one
};

}  // namespace hecaton
