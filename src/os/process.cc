#include "os/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>

extern char** environ;

namespace hecaton {
namespace {

// "NAME=VALUE" strings: ours with the additions laid over them.
std::vector<std::string> merged_environment(const ProcessSpec& spec) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry; ++entry) {
    std::string text = *entry;
    std::string name = text.substr(0, text.find('='));
    bool replaced = std::any_of(spec.environment.begin(), spec.environment.end(),
                                [&](const auto& pair) { return pair.first == name; });
    if (!replaced) merged.push_back(std::move(text));
  }
  for (const auto& [name, value] : spec.environment) merged.push_back(name + "=" + value);
  return merged;
}

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Puts each descriptor at its number. Numbers that are both source and target are moved out of the way first.
bool place_descriptors(std::vector<std::pair<int, int>>& descriptors) {
  for (auto& [ours, theirs] : descriptors) {
    ours = fcntl(ours, F_DUPFD, 200);
    if (ours < 0) return false;
  }
  for (auto& [ours, theirs] : descriptors) {
    if (dup2(ours, theirs) < 0) return false;
    close(ours);
  }
  return true;
}

[[noreturn]] void run_child(const ProcessSpec& spec, std::vector<std::pair<int, int>>& descriptors, char** argv,
                            char** envp, pid_t parent, int error_pipe) {
  if (!spec.survives) prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number : {SIGINT, SIGQUIT, SIGTSTP, SIGHUP}) {
    signal(number, spec.ignore_terminal_signals ? SIG_IGN : SIG_DFL);
  }
  if (spec.ignore_terminal_signals) setpgid(0, 0);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGXFSZ, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  const bool placed = getppid() == parent && place_descriptors(descriptors);
  rlimit files{};
  if (spec.open_files != 0 && getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = spec.open_files;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  if (placed) {
    environ = envp;
    execvp(argv[0], argv);
  }
  int error = errno;
  [[maybe_unused]] ssize_t written = write(error_pipe, &error, sizeof error);
  _exit(127);
}

}  // namespace

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : adopted_(other.adopted_), pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this != &other) {
    destroy();
    adopted_ = other.adopted_;
    pid_ = std::exchange(other.pid_, -1);
    pidfd_ = std::move(other.pidfd_);
  }
  return *this;
}

ChildProcess::~ChildProcess() {
  destroy();
}

void ChildProcess::destroy() {
  if (pid_ <= 0) return;
  signal(SIGKILL);
  [[maybe_unused]] auto status = wait();
}

Result<ChildProcess> ChildProcess::start(const ProcessSpec& spec) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return system_error("pipe");
  OwnedFd read_end(ends[0]);
  OwnedFd write_end(fcntl(ends[1], F_DUPFD_CLOEXEC, 400));  // out of the way of the numbers that are handed over
  close(ends[1]);

  std::vector<std::string> arguments = spec.arguments;
  std::vector<std::string> environment = merged_environment(spec);
  std::vector<char*> argv = pointers_to(arguments);
  std::vector<char*> envp = pointers_to(environment);
  std::vector<std::pair<int, int>> descriptors = spec.descriptors;
  pid_t parent = getpid();

  ChildProcess child;
  child.pid_ = fork();
  if (child.pid_ < 0) return system_error("fork");
  if (child.pid_ == 0) run_child(spec, descriptors, argv.data(), envp.data(), parent, write_end.get());
  write_end.reset();
  int exec_error = 0;
  if (read(read_end.get(), &exec_error, sizeof exec_error) == sizeof exec_error) {
    [[maybe_unused]] auto status = child.wait();
    return Error{exec_error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kSystem, exec_error, "starting a program"};
  }
  child.pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, child.pid_, 0)));
  if (!child.pidfd_.valid()) return system_error("pidfd_open");
  return child;
}

Result<ChildProcess> ChildProcess::adopt(pid_t pid) {
  ChildProcess process;
  process.pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process.pidfd_.valid()) return system_error("pidfd_open", ErrorCode::kNotFound);
  process.pid_ = pid;
  process.adopted_ = true;
  return process;
}

// Through its own descriptor: the number may be another's by now.
void ChildProcess::signal(int number) const {
  if (pid_ > 0) syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

bool ChildProcess::ends_by(Deadline by) const {
  for (;;) {
    pollfd waiting{pidfd_.get(), POLLIN, 0};
    const int ready = poll(&waiting, 1, by.remaining_ms());
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

void ChildProcess::release() {
  pid_ = -1;
  pidfd_.reset();
}

namespace {

// PIDFD_GET_INFO of Linux 6.13, with the exit status since 6.15; Debian 12's headers do not know it.
struct PidfdInfo {
  uint64_t mask;
  uint64_t cgroup;
  uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
constexpr uint64_t kPidfdInfoExit = 1u << 3;
constexpr unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);

// Of a zombie: the last field of its line in /proc.
std::optional<int> status_of_zombie(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  const size_t name_end = line.rfind(')'), last = line.rfind(' ');
  if (name_end == std::string::npos || last == std::string::npos || line.compare(name_end, 3, ") Z") != 0) {
    return std::nullopt;
  }
  return static_cast<int>(strtol(line.c_str() + last, nullptr, 10));
}

}  // namespace

int ChildProcess::adopted_status() const {
  (void)ends_by(Deadline::never());
  // Its parent by now, init or a sub-reaper, has reaped it, or is about to.
  for (int tries = 0; tries < 100; ++tries) {
    if (std::optional<int> status = status_of_zombie(pid_)) return *status;
    PidfdInfo info{};
    info.mask = kPidfdInfoExit;
    if (ioctl(pidfd_.get(), kPidfdGetInfo, &info) == 0 && (info.mask & kPidfdInfoExit)) return info.exit_code;
    poll(nullptr, 0, 1);
  }
  return 0;
}

Result<int> ChildProcess::wait() {
  int status = 0;
  if (adopted_) {
    status = adopted_status();
    release();
    return status;
  }
  while (waitpid(pid_, &status, 0) < 0) {
    if (errno != EINTR) return system_error("waitpid");
  }
  pid_ = -1;
  pidfd_.reset();
  return status;
}

Result<OwnedFd> take_descriptor(int pidfd, int number) {
  OwnedFd fd(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, number, 0)));
  if (!fd.valid()) return system_error("taking a descriptor of another process");
  return fd;
}

Result<std::string> output_of(const std::vector<std::string>& arguments, Deadline by) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return system_error("pipe");
  OwnedFd read_end(ends[0]), write_end(ends[1]);
  OwnedFd nothing(open("/dev/null", O_RDWR | O_CLOEXEC));
  ProcessSpec spec;
  spec.arguments = arguments;
  spec.descriptors = {{nothing.get(), STDIN_FILENO}, {write_end.get(), STDOUT_FILENO}, {nothing.get(), STDERR_FILENO}};
  spec.ignore_terminal_signals = true;
  ChildProcess child = HEC_TRY(ChildProcess::start(spec));
  write_end.reset();
  std::string text;
  char buffer[4096];
  while (text.size() < 65536) {
    pollfd waiting{read_end.get(), POLLIN, 0};
    if (poll(&waiting, 1, by.remaining_ms()) == 0) return Error{ErrorCode::kTimeout, 0, "it does not end"};
    ssize_t got = read(read_end.get(), buffer, sizeof buffer);
    if (got <= 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

}  // namespace hecaton
