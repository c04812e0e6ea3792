#include "cli/local_donor.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/installed.h"
#include "cli/pager_process.h"

namespace hecaton::cli {
namespace {

constexpr int64_t kStartMs = 10'000;

// What it says until it is ready, or ends: both of its outputs.
std::string read_until(int fd, std::string_view ready, Deadline by) {
  std::string text;
  char buffer[512];
  while (text.find(ready) == std::string::npos || text.back() != '\n') {
    pollfd waiting{fd, POLLIN, 0};
    if (poll(&waiting, 1, by.remaining_ms()) <= 0) return text;
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got <= 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

}  // namespace

Result<LocalDonor> start_local_donor(std::vector<std::string> options, Survives survives, std::string* problem) {
  auto program = find_hecatond();
  if (!program) {
    *problem = "hecatond is not beside hecaton, nor on PATH; install it";
    return Error{ErrorCode::kNotFound, 0, "hecatond"};
  }
  int output[2], line[2];
  if (pipe2(output, O_CLOEXEC) != 0 || pipe2(line, O_CLOEXEC) != 0) {
    *problem = "out of descriptors; see ulimit -n";
    return system_error("pipe");
  }
  OwnedFd output_read(output[0]), output_write(output[1]), line_read(line[0]);
  LocalDonor donor;
  donor.line.reset(line[1]);
  ProcessSpec spec;
  spec.arguments = {*program, "--listen", "127.0.0.1:0", "--parent-fd", std::to_string(kParentFd)};
  spec.arguments.insert(spec.arguments.end(), options.begin(), options.end());
  spec.descriptors = {
      {line_read.get(), kParentFd}, {output_write.get(), STDOUT_FILENO}, {output_write.get(), STDERR_FILENO}};
  spec.ignore_terminal_signals = true;
  spec.survives = survives == Survives::kYes;
  auto child = ChildProcess::start(spec);
  if (!child.ok()) {
    *problem = *program + ": " + child.error().describe();
    return child.error();
  }
  donor.process = std::move(child).value();
  output_write.reset();
  constexpr std::string_view kReady = "hecatond: lending ";
  const std::string said = read_until(output_read.get(), kReady, Deadline::after_ms(kStartMs));
  const size_t ready = said.find(kReady);
  const size_t address = ready == std::string::npos ? ready : said.find(" on ", ready);
  if (address == std::string::npos) {
    *problem = said.empty() ? "it ended before it was ready" : said.substr(0, said.find('\n'));
    return Error{ErrorCode::kUnavailable, 0, "a donor on this machine does not start"};
  }
  const size_t from = address + 4;
  donor.address = said.substr(from, said.find('\n', from) - from);
  return donor;
}

}  // namespace hecaton::cli
