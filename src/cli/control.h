// The line between the supervisor and the pager process: one JSON object a line, over a socketpair.
//
//   supervisor → pager   {"config": {...}}                     first, once
//                        {"ask": "stats"}
//   pager → supervisor   {"event": "ready"}                    donors connected; QEMU may start
//                        {"event": "failed", "error", "code"}  it cannot start, and why
//                        {"event": "attached"}                 QEMU's RAM is paged
//                        {"event": "lost", "error"}            guest memory is gone; the guest must end
//                        {"event": "stats", ...}               figures
//   the end of the line ends the pager.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
#include "os/owned_fd.h"

namespace hecaton::cli {

class ControlLine {
 public:
  ControlLine() = default;
  explicit ControlLine(OwnedFd fd) : fd_(std::move(fd)) {}
  static Result<std::pair<ControlLine, ControlLine>> pair();

  // Error: the other side is gone.
  Result<void> send(const nlohmann::json& message);
  // Takes in what has arrived. False: the other side is gone.
  bool fill();
  // The next whole message; nothing if none is there. Lines that are not JSON objects are skipped.
  std::optional<nlohmann::json> next();
  // Waits for a message.
  std::optional<nlohmann::json> wait(int timeout_ms);

  int fd() const { return fd_.get(); }
  void close() { fd_.reset(); }

 private:
  OwnedFd fd_;
  std::string received_;
};

}  // namespace hecaton::cli
