// A hecatond in a process of its own, to be killed.
#pragma once

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "os/own_loopback_for_tests.h"

namespace chaos {

// A hecatond at a port of its own, which it keeps when it is started anew.
class Donor {
 public:
  Donor(const std::string& program, const std::string& size) : program_(program), size_(size) {
    start(hecaton::own_loopback() + ":0");
  }
  ~Donor() { kill(); }
  Donor(const Donor&) = delete;
  Donor& operator=(const Donor&) = delete;

  void start(const std::string& listen) {
    int output[2];
    if (pipe(output) != 0) abort();
    pid_ = fork();
    running().push_back(pid_);
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(output[1], STDOUT_FILENO);
      close(output[0]);
      close(output[1]);
      execl(program_.c_str(), "hecatond", "--size", size_.c_str(), "--listen", listen.c_str(), nullptr);
      _exit(127);
    }
    close(output[1]);
    FILE* lines = fdopen(output[0], "r");
    char line[256] = "";
    if (!fgets(line, sizeof line, lines)) line[0] = 0;
    fclose(lines);
    const char* at = strstr(line, " on ");
    if (!at) {
      fprintf(stderr, "%s does not start: %s\n", program_.c_str(), line);
      exit(3);
    }
    address_ = std::string(at + 4);
    address_.erase(address_.find_last_not_of("\n") + 1);
  }
  void restart() { start(address_); }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    std::erase(running(), pid_);
    pid_ = 0;
  }
  void stop() { ::kill(pid_, SIGSTOP); }
  void go_on() { ::kill(pid_, SIGCONT); }
  const std::string& address() const { return address_; }
  static std::vector<pid_t>& running() {
    static std::vector<pid_t> all;
    return all;
  }

 private:
  const std::string program_, size_;
  std::string address_;
  pid_t pid_ = 0;
};

inline double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())))];
}

}  // namespace chaos
