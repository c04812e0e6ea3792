#include "cli/control.h"

#include <poll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "os/fd_passing.h"

namespace hecaton::cli {

Result<std::pair<ControlLine, ControlLine>> ControlLine::pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return system_error("socketpair");
  return std::pair(ControlLine(OwnedFd(ends[0])), ControlLine(OwnedFd(ends[1])));
}

Result<void> ControlLine::send(const nlohmann::json& message, std::span<const int> descriptors) {
  std::string line = message.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
  for (size_t at = 0; at < line.size();) {
    const ssize_t sent = send_with_descriptors(fd_.get(), std::as_bytes(std::span(line).subspan(at)),
                                               at == 0 ? descriptors : std::span<const int>());
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return system_error("sending to the other process", ErrorCode::kClosed);
    at += static_cast<size_t>(sent);
  }
  return {};
}

bool ControlLine::fill() {
  char buffer[65536];
  for (;;) {
    const ssize_t got =
        receive_with_descriptors(fd_.get(), std::as_writable_bytes(std::span(buffer)), descriptors_).count;
    if (got > 0) {
      received_.append(buffer, static_cast<size_t>(got));
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  }
}

std::optional<nlohmann::json> ControlLine::next() {
  for (;;) {
    size_t end = received_.find('\n');
    if (end == std::string::npos) return std::nullopt;
    nlohmann::json message = nlohmann::json::parse(received_.substr(0, end), nullptr, false);
    received_.erase(0, end + 1);
    if (message.is_object()) return message;
  }
}

std::optional<nlohmann::json> ControlLine::wait(int timeout_ms) {
  Deadline by = Deadline::after_ms(timeout_ms);
  for (;;) {
    if (auto message = next()) return message;
    pollfd waiting{fd_.get(), POLLIN, 0};
    int ready = poll(&waiting, 1, by.remaining_ms());
    if (ready == 0) return std::nullopt;
    if (ready < 0 && errno != EINTR) return std::nullopt;
    if (ready > 0 && !fill()) return next();
  }
}

}  // namespace hecaton::cli
