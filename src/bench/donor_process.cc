#include "bench/donor_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <charconv>

#include "bench/options.h"
#include "donor/server.h"
#include "os/open_files.h"

namespace hecaton::bench {
namespace {

constexpr int64_t kStartMs = 60'000;

Result<std::string> read_line(int fd, Deadline by) {
  std::string line;
  char buffer[4096];
  while (line.empty() || line.back() != '\n') {
    pollfd waiting{fd, POLLIN, 0};
    if (poll(&waiting, 1, by.remaining_ms()) == 0) return Error{ErrorCode::kTimeout, 0, "starting many donors"};
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got <= 0) return Error{ErrorCode::kClosed, 0, "the donors' process ended; see what it said above"};
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

Result<DonorProcess> DonorProcess::start(size_t donors, uint64_t lends_bytes, std::string* problem) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return explained<DonorProcess>(problem, system_error("pipe"));
  OwnedFd read_end(ends[0]), write_end(ends[1]);
  ProcessSpec spec;
  spec.arguments = {"/proc/self/exe", "internal-donors", std::to_string(donors), std::to_string(lends_bytes)};
  spec.descriptors = {{write_end.get(), STDOUT_FILENO}};
  spec.ignore_terminal_signals = true;
  DonorProcess process;
  process.child_ = HEC_TRY(explained(problem, ChildProcess::start(spec)));
  write_end.reset();
  const std::string line = HEC_TRY(explained(problem, read_line(read_end.get(), Deadline::after_ms(kStartMs))));
  process.addresses_ = addresses_in(line);
  if (process.addresses_.size() == donors) return process;
  return explained<DonorProcess>(problem, Error{ErrorCode::kProtocol, 0, "fewer donors started than were asked for"});
}

std::string serve_donors(size_t donors, uint64_t lends_bytes) {
  prctl(PR_SET_NAME, "hecaton-donors");
  const uint64_t wanted = DonorProcess::descriptors_for(donors), limit = raise_open_files(wanted);
  if (limit < wanted) return fmt::format("{} donors need {} open files, and the limit is {}", donors, wanted, limit);
  DonorConfig config;
  config.donors = donors;
  config.lends_bytes = lends_bytes;
  config.threads = 1;  // as an embedded donor has
  auto server = DonorServer::start(config);
  if (!server.ok()) return server.error().describe();
  std::string ports;
  for (size_t i = 0; i < donors; ++i) ports += fmt::format("{} ", server.value()->address(i).port);
  ports.back() = '\n';
  for (size_t done = 0; done < ports.size();) {
    const ssize_t written = write(STDOUT_FILENO, ports.data() + done, ports.size() - done);
    if (written <= 0) return "nobody reads the ports";
    done += static_cast<size_t>(written);
  }
  for (;;) pause();
}

}  // namespace hecaton::bench
