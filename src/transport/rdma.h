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
  // Error: kNotFound, this machine, or this address of it, has no RDMA device.
  static Result<RdmaListener> listen(const NodeUrl& at);
  // The next waiting connection; null if none waits, or if it was not one of ours. Error: this machine lacks something.
  Result<std::unique_ptr<Stream>> accept() const;
  int fd() const { return events_->fd; }

 private:
  RdmaListener(RdmaEvents events, RdmaId id) : events_(std::move(events)), id_(std::move(id)) {}
  RdmaEvents events_;
  RdmaId id_;
};

}  // namespace hecaton
