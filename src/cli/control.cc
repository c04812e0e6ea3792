#include "cli/control.h"

#include <poll.h>
#include <sys/socket.h>

#include <cstring>

#include "base/clock.h"

namespace hecaton::cli {

Result<std::pair<ControlLine, ControlLine>> ControlLine::pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return system_error("socketpair");
  return std::pair(ControlLine(OwnedFd(ends[0])), ControlLine(OwnedFd(ends[1])));
}

namespace {

// The first bytes of a message, and the descriptors with them.
ssize_t send_with_descriptors(int socket, std::string_view bytes, std::span<const int> descriptors) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(ControlLine::kMostDescriptors * sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
  std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  return sendmsg(socket, &header, MSG_NOSIGNAL);
}

// Every descriptor that came is ours from here on.
void keep_descriptors(msghdr& header, std::vector<OwnedFd>& descriptors) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, reinterpret_cast<const char*>(part) + at, sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
}

}  // namespace

Result<void> ControlLine::send(const nlohmann::json& message, std::span<const int> descriptors) {
  HEC_CHECK(descriptors.size() <= kMostDescriptors);
  std::string line = message.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
  for (size_t at = 0; at < line.size();) {
    const std::string_view left = std::string_view(line).substr(at);
    const ssize_t sent = at == 0 && !descriptors.empty() ? send_with_descriptors(fd_.get(), left, descriptors)
                                                         : ::send(fd_.get(), left.data(), left.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return system_error("sending to the other process", ErrorCode::kClosed);
    at += static_cast<size_t>(sent);
  }
  return {};
}

bool ControlLine::fill() {
  char buffer[65536];
  for (;;) {
    iovec part{buffer, sizeof buffer};
    alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int))];
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t got = recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got >= 0) keep_descriptors(header, descriptors_);
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
