// The line between the supervisor and the pager process: one JSON object a line, over a socketpair; descriptors travel
// beside some of them.
//
//   supervisor → pager   {"config": {...}}                     first, once
//                        {"attach": {...}} + descriptors       QEMU's process, and its userfaultfds by shard: serve
//                        them.
//                                                              With the memory of a pager that died: take over
//                        {"ask": "stats"}
//                        {"ask": "ping"}
//                        {"ask": "end"}                        the VM is over: the donors may forget it
//   pager → supervisor   {"event": "ready", "protection"}      donors connected; QEMU may start
//                        {"event": "failed", "error", "code"}  it cannot start, and why
//                        {"event": "attached"}                 QEMU's RAM is paged
//                        {"event": "lost", "error"}            guest memory is gone; the guest must end
//                        {"event": "poisoned", "error"}        guest memory is gone; the guest gets memory errors
//                        {"event": "notice", "text"}           for the user
//                        {"event": "stats", ...}               figures
//                        {"event": "alive"}                    the answer to a ping
//   The end of the line ends a pager that serves no QEMU yet. One that does goes on, and listens for whoever comes to
//   its socket in the VM's folder (runtime_folder.h):
//
//   status → pager       {"ask": "stats"}
//   pool → pager         {"ask": "pool", "change": "add|drain|remove", "url", "force"}
//   pager → it           {"event": "pool"}, or {"event": "failed", "error"}
//   a new supervisor     {"ask": "adopt"}
//   pager → it           {"event": "adopted", ...} + descriptors   from here on this is the pager's control line
//                        {"event": "refused", "error"}             its supervisor lives
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "os/owned_fd.h"

namespace hecaton::cli {

class ControlLine {
 public:
  ControlLine() = default;
  explicit ControlLine(OwnedFd fd) : fd_(std::move(fd)) {}
  static Result<std::pair<ControlLine, ControlLine>> pair();

  // Error: the other side is gone. The descriptors stay ours as well.
  Result<void> send(const nlohmann::json& message, std::span<const int> descriptors = {});
  // Takes in what has arrived. False: the other side is gone.
  bool fill();
  // The next whole message; nothing if none is there. Lines that are not JSON objects are skipped.
  std::optional<nlohmann::json> next();
  // The descriptors that came beside a message are there when it is; all that have come.
  std::vector<OwnedFd> take_descriptors() { return std::exchange(descriptors_, {}); }
  // Waits for a message.
  std::optional<nlohmann::json> wait(int timeout_ms);

  int fd() const { return fd_.get(); }
  bool open() const { return fd_.valid(); }
  void close() { fd_.reset(); }

 private:
  OwnedFd fd_;
  std::string received_;
  std::vector<OwnedFd> descriptors_;
};

}  // namespace hecaton::cli
