// For tests: hecatond as a process.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "donor/host_for_tests.h"
#include "os/process.h"

namespace hecaton::donor {

struct PipeEnds {
  OwnedFd read, write;
};

inline PipeEnds make_pipe() {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  return {OwnedFd(ends[0]), OwnedFd(ends[1])};
}

inline std::string read_all(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(got));
  return text;
}

struct Ended {
  int exit_status;  // 128 + signal if killed
  std::string out, err;
};

// A program under test, with its output caught.
class Program {
 public:
  explicit Program(std::vector<std::string> arguments, std::vector<std::pair<int, int>> descriptors = {}) {
    PipeEnds out = make_pipe(), err = make_pipe();
    descriptors.push_back({out.write.get(), STDOUT_FILENO});
    descriptors.push_back({err.write.get(), STDERR_FILENO});
    ProcessSpec spec;
    spec.arguments = std::move(arguments);
    spec.descriptors = std::move(descriptors);
    child_ = ChildProcess::start(spec).value();
    out_ = std::move(out.read);
    err_ = std::move(err.read);
  }
  std::string first_line() {
    std::string line;
    char c;
    while (read(out_.get(), &c, 1) == 1 && c != '\n') line += c;
    return line;
  }
  Ended end() {
    Ended ended{0, read_all(out_.get()), read_all(err_.get())};
    int status = child_.wait().value();
    ended.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return ended;
  }
  void signal(int number) { child_.signal(number); }
  pid_t pid() const { return child_.pid(); }

 private:
  ChildProcess child_;
  OwnedFd out_, err_;
};

inline Ended run_hecatond(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), HECATOND_PATH);
  return Program(arguments).end();
}

struct DonorSpec {
  std::string size = "64M";
  std::string listen = "127.0.0.1:0";
  std::vector<std::string> more = {};
  std::vector<std::pair<int, int>> descriptors = {};
  std::string before = "true";  // shell text that prepares the process
  bool pairs = false;           // it has a token, and prints a URL with it
};

// A running hecatond.
class Donor {
 public:
  explicit Donor(DonorSpec spec = {}) : program_(command(spec), spec.descriptors) {
    ready_line_ = program_.first_line();
    size_t at = ready_line_.rfind(" on ");
    if (at == std::string::npos) ADD_FAILURE() << ready_line_ << program_.end().err;
    address_ = with_token_ = parse_node_url(ready_line_.substr(at + 4)).value();
    if (!spec.pairs) return;
    const std::string pair_line = program_.first_line();
    const std::string before = "hecatond: pair with  ";
    if (!pair_line.starts_with(before)) ADD_FAILURE() << pair_line << program_.end().err;
    pairing_ = parse_node_url(pair_line.substr(before.size())).value();
    with_token_.token = pairing_.token;
  }
  const NodeUrl& address() const { return address_; }
  // The URL that it prints for hosts.
  const NodeUrl& pairing() const { return pairing_; }
  const std::string& ready_line() const { return ready_line_; }
  Program& program() { return program_; }
  // A number of /proc/PID/status: kB, or a count.
  uint64_t status(const std::string& name) {
    std::ifstream file("/proc/" + std::to_string(program_.pid()) + "/status");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1));
    }
    return 0;
  }
  wire::StatReply stat() {
    // As a host that knows the token, if the donor has one.
    Host host(connect_to(with_token_, Credentials(), Deadline::after_ms(kPatienceMs)).value());
    host.ask(hello_frame());
    return wire::decode_stat_reply(host.ask(frame(wire::Operation::kStat, {})).body).value();
  }

 private:
  static std::vector<std::string> command(const DonorSpec& spec) {
    std::vector<std::string> all = {
        "sh", "-c", spec.before + "; exec \"$@\"", "sh", HECATOND_PATH, "--size", spec.size, "--listen", spec.listen};
    all.insert(all.end(), spec.more.begin(), spec.more.end());
    return all;
  }
  Program program_;
  std::string ready_line_;
  NodeUrl address_, with_token_, pairing_;
};

inline void raise_file_limit() {
  rlimit files;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
}

}  // namespace hecaton::donor
