#include "bench/helper_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <charconv>

namespace hecaton::bench {
namespace {

constexpr int64_t kStartMs = 60'000;

Result<std::string> read_line(int fd, Deadline by) {
  std::string line;
  char buffer[4096];
  while (line.empty() || line.back() != '\n') {
    pollfd waiting{fd, POLLIN, 0};
    if (poll(&waiting, 1, by.remaining_ms()) == 0) return Error{ErrorCode::kTimeout, 0, "starting a helper process"};
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got <= 0) return Error{ErrorCode::kClosed, 0, "a helper process ended; see what it said above"};
    line.append(buffer, static_cast<size_t>(got));
  }
  return line;
}

std::vector<NodeUrl> addresses_in(const std::string& line) {
  std::vector<NodeUrl> addresses;
  uint16_t port = 0;
  for (const char *at = line.data(), *end = at + line.size(); at < end; ++at) {
    auto [rest, error] = std::from_chars(at, end, port);
    if (error == std::errc()) addresses.push_back({.token = {}, .host = "127.0.0.1", .port = port});
    at = rest;
  }
  return addresses;
}

}  // namespace

Result<HelperProcess> HelperProcess::start(std::vector<std::string> arguments, size_t ports) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return system_error("pipe");
  OwnedFd read_end(ends[0]), write_end(ends[1]);
  ProcessSpec spec;
  spec.arguments = {"/proc/self/exe"};
  spec.arguments.insert(spec.arguments.end(), arguments.begin(), arguments.end());
  spec.descriptors = {{write_end.get(), STDOUT_FILENO}};
  spec.ignore_terminal_signals = true;
  HelperProcess helper;
  helper.child_ = HEC_TRY(ChildProcess::start(spec));
  write_end.reset();
  helper.addresses_ = addresses_in(HEC_TRY(read_line(read_end.get(), Deadline::after_ms(kStartMs))));
  if (helper.addresses_.size() != ports) {
    return Error{ErrorCode::kProtocol, 0, "a helper process serves on fewer ports than it was asked for"};
  }
  return helper;
}

bool say_ports(const std::vector<uint16_t>& ports) {
  std::string line;
  for (uint16_t port : ports) line += fmt::format("{} ", port);
  if (line.empty()) return false;
  line.back() = '\n';
  for (size_t done = 0; done < line.size();) {
    const ssize_t written = write(STDOUT_FILENO, line.data() + done, line.size() - done);
    if (written <= 0) return false;
    done += static_cast<size_t>(written);
  }
  return true;
}

}  // namespace hecaton::bench
