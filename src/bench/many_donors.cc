#include "bench/many_donors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "bench/options.h"
#include "donor/server.h"
#include "os/open_files.h"
#include "store/donor_pool.h"

namespace hecaton::bench {
namespace {

constexpr int64_t kStartMs = 60'000;
constexpr uint64_t kOwnDescriptors = 64;  // what a process needs besides

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

// Connections of one kind, prefetch or write-back, that a pool has open at most.
uint64_t links_in(size_t donors) {
  return std::min<uint64_t>(donors, PoolConfig{}.most_links);
}

// How many donors of a pool one helper can be: each has a listener and a demand connection, and all together the rest.
size_t donors_in_a_process(size_t donors) {
  const uint64_t shared = 2 * links_in(donors) + kOwnDescriptors;
  const uint64_t limit = raise_open_files(2 * donors + shared);
  return limit <= shared ? 0 : std::min<uint64_t>(donors, (limit - shared) / 2);
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

uint64_t ManyDonors::descriptors_for_pager(size_t donors) {
  return donors + 2 * links_in(donors) + kOwnDescriptors;
}

Result<ManyDonors> ManyDonors::start(size_t donors, uint64_t lends_bytes, std::string* problem) {
  const size_t most = donors_in_a_process(donors);
  if (most == 0) {
    *problem = "the limit of open files is too low to start a donor; raise it (ulimit -n)";
    return Error{ErrorCode::kSystem, EMFILE, "starting donors"};
  }
  ManyDonors many;
  while (many.addresses_.size() < donors) {
    HEC_TRY(explained(problem, many.start_process(std::min(most, donors - many.addresses_.size()), lends_bytes)));
  }
  return many;
}

Result<void> ManyDonors::start_process(size_t donors, uint64_t lends_bytes) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return system_error("pipe");
  OwnedFd read_end(ends[0]), write_end(ends[1]);
  ProcessSpec spec;
  spec.arguments = {"/proc/self/exe", "internal-donors", std::to_string(donors), std::to_string(lends_bytes)};
  spec.descriptors = {{write_end.get(), STDOUT_FILENO}};
  spec.ignore_terminal_signals = true;
  children_.push_back(HEC_TRY(ChildProcess::start(spec)));
  write_end.reset();
  const std::vector<NodeUrl> started = addresses_in(HEC_TRY(read_line(read_end.get(), Deadline::after_ms(kStartMs))));
  if (started.size() != donors) return Error{ErrorCode::kProtocol, 0, "fewer donors started than were asked for"};
  addresses_.insert(addresses_.end(), started.begin(), started.end());
  return {};
}

std::string serve_donors(size_t donors, uint64_t lends_bytes) {
  prctl(PR_SET_NAME, "hecaton-donors");
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
