#include "cli/supervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>

#include "base/clock.h"
#include "base/stripes.h"
#include "base/units.h"
#include "cli/installed.h"
#include "cli/live_view.h"
#include "cli/output.h"
#include "cli/pager_process.h"
#include "cli/verbs.h"
#include "os/memory.h"

namespace hecaton::cli {
namespace {

constexpr int kTickMs = 50;
constexpr int64_t kLiveNs = 500'000'000;
constexpr int64_t kLiveLogNs = 5'000'000'000;  // where lines are not redrawn but pile up
constexpr int64_t kEndPatienceNs = 10'000'000'000;
constexpr int kStartMs = 30'000;
constexpr int kPagerEndMs = 3000;

std::string describe_status(int status) {
  if (WIFSIGNALED(status))
    return fmt::format("killed by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
  return fmt::format("exit status {}", WEXITSTATUS(status));
}

// A line from a child's stdout, or what came before its end.
std::string read_line(int fd, Deadline by) {
  std::string line;
  char c;
  for (;;) {
    pollfd waiting{fd, POLLIN, 0};
    if (poll(&waiting, 1, by.remaining_ms()) <= 0) return line;
    if (read(fd, &c, 1) != 1 || c == '\n') return line;
    line += c;
  }
}

}  // namespace

Supervisor::Supervisor(const RunOptions& options, std::string accel, std::vector<std::string> qemu_command)
    : options_(options), accel_(std::move(accel)), qemu_command_(std::move(qemu_command)) {
  termios now;
  if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &now) == 0) terminal_ = now;
}

// QEMU leaves the terminal in raw mode if it is killed.
Supervisor::~Supervisor() {
  end_pager();
  if (!terminal_) return;
  signal(SIGTTOU, SIG_IGN);
  tcsetattr(STDIN_FILENO, TCSANOW, &*terminal_);
}

template <typename... Args>
void Supervisor::say(const char* text, Args&&... args) const {
  if (!options_.quiet) print_error("hecaton: {}\n", fmt::format(fmt::runtime(text), std::forward<Args>(args)...));
}

bool Supervisor::fail(int exit_status, const std::string& why) {
  print_error("{}hecaton: {}\n", live_line_shown_ ? "\n" : "", why);
  live_line_shown_ = false;
  forced_exit_ = exit_status;
  return false;
}

int Supervisor::run() {
  started_ns_ = monotonic_ns();
  if (!prepare() || !start_donor() || !start_spill() || !start_pager() || !start_qemu()) return *forced_exit_;
  return watch();
}

bool Supervisor::prepare() {
  sigset_t handled;
  sigemptyset(&handled);
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&handled, number);
  sigprocmask(SIG_BLOCK, &handled, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signals_.reset(signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  auto memory = create_memfd("hecaton-ram", options_.memory_bytes);
  if (!memory.ok()) {
    return fail(kExitMachine,
                "the VM's RAM cannot be made: " + memory.error().describe() +
                    (memory.error().os_error == EFBIG ? "; `ulimit -f` limits it: ulimit -f unlimited" : ""));
  }
  memory_ = std::move(memory).value();
  const uint64_t available = available_memory();
  if (available != 0 && options_.local_bytes > available) {
    print_error(
        "hecaton: --local {} is more than the {} this machine has available now: when the guest fills it, the "
        "machine swaps, or its kernel ends the guest; choose a smaller --local\n",
        format_size(options_.local_bytes), format_size(available));
  }
  for (const NodeUrl& node : options_.nodes) nodes_.push_back(node.printable());
  return signals_.valid() || fail(kExitMachine, "signalfd: " + std::string(strerror(errno)));
}

// Until there is something to read. False: the deadline came, or somebody who asked for the end (then forced_exit_).
bool Supervisor::wait_for(int fd, Deadline by) {
  pollfd waiting[] = {{fd, POLLIN, 0}, {signals_.get(), POLLIN, 0}};
  while (poll(waiting, std::size(waiting), by.remaining_ms()) < 0 && errno == EINTR) {
  }
  return !(waiting[1].revents && end_before_the_start()) && waiting[0].revents;
}

// A donor that does not answer can hold up the start for long: nobody who presses Ctrl-C waits for that.
bool Supervisor::end_before_the_start() {
  signalfd_siginfo info;
  if (read(signals_.get(), &info, sizeof info) != sizeof info) return false;
  const int number = static_cast<int>(info.ssi_signo);
  fail(128 + number, fmt::format("ended by a signal ({}) before the guest had started", strsignal(number)));
  return true;
}

bool Supervisor::start_donor() {
  if (!nodes_.empty()) return true;
  auto program = find_hecatond();
  if (!program)
    return fail(kExitMachine, "hecatond is not beside hecaton, nor on PATH; install it, or name donors with --node");
  int output[2], line[2];
  if (pipe2(output, O_CLOEXEC) != 0 || pipe2(line, O_CLOEXEC) != 0) return fail(kExitMachine, "out of descriptors");
  OwnedFd output_read(output[0]), output_write(output[1]), line_read(line[0]);
  donor_line_.reset(line[1]);
  ProcessSpec spec;
  const uint64_t size = extents_in(pages_in(options_.memory_bytes)) * kExtentBytes;
  spec.arguments = {*program,      "--size",      std::to_string(size),     "--listen",
                    "127.0.0.1:0", "--parent-fd", std::to_string(kParentFd)};
  spec.descriptors = {{line_read.get(), kParentFd}, {output_write.get(), STDOUT_FILENO}};
  spec.ignore_terminal_signals = true;
  auto child = ChildProcess::start(spec);
  if (!child.ok()) return fail(kExitMachine, *program + ": " + child.error().describe());
  donor_ = std::move(child).value();
  output_write.reset();
  const Deadline by = Deadline::after_ms(kStartMs);
  if (!wait_for(output_read.get(), by) && forced_exit_) return false;
  std::string ready = read_line(output_read.get(), by);
  size_t address = ready.rfind(" on ");
  if (address == std::string::npos)
    return fail(kExitMachine, "the embedded donor ended before it was ready" + (ready.empty() ? "" : ": " + ready));
  nodes_.push_back(ready.substr(address + 4));
  return true;
}

// For what protection asks of this machine's disk. Whether it is needed, the pager decides: it costs next to nothing.
bool Supervisor::start_spill() {
  if (options_.nodes.empty() || options_.protect == "none") return true;
  const std::string directory = options_.spill_directory.empty() ? "/var/tmp" : options_.spill_directory;
  const uint64_t size = extents_in(pages_in(options_.memory_bytes)) * kExtentBytes;
  std::string problem;
  auto spill = start_local_donor({"--size", std::to_string(size), "--backing", directory}, &problem);
  if (spill.ok()) {
    spill_ = std::move(spill).value();
    return true;
  }
  if (options_.protect == "spill" || !options_.spill_directory.empty()) {
    return fail(kExitMachine, fmt::format("pages cannot be spilled to {}: {}; choose a directory on a disk with "
                                          "--spill-dir, or another --protect",
                                          directory, problem));
  }
  if (options_.nodes.size() > 1) return true;
  print_error(
      "hecaton: the VM's memory is not protected: its pages cannot be kept on this machine's disk too ({}). If "
      "donor {} fails, the VM is lost; name a second donor, or another directory with --spill-dir\n",
      problem, options_.nodes.front().printable());
  return true;
}

std::string Supervisor::describe_protection(const std::string& protection) const {
  if (options_.nodes.empty()) return "";
  if (protection == "mirror") return "; each page that leaves is at two of them";
  if (protection == "spill") return "; each page that leaves is on this machine's disk too";
  return "; NOT protected: a donor that fails takes the VM with it";
}

// A secret: for the pager's eyes only.
std::vector<std::string> Supervisor::nodes_with_tokens() const {
  std::vector<std::string> urls;
  for (const NodeUrl& node : options_.nodes) urls.push_back(node.with_token());
  return urls.empty() ? nodes_ : urls;  // the embedded donor has none
}

bool Supervisor::start_pager() {
  if (options_.on_loss == "poison" && accel_ != "kvm") {
    return fail(kExitMachine,
                "--on-loss poison needs KVM: without it QEMU itself would be ended by the memory error; "
                "leave it out");
  }
  auto line = ControlLine::pair();
  int handover[2];
  if (!line.ok() || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, handover) != 0) {
    return fail(kExitMachine, "out of descriptors");
  }
  OwnedFd pager_handover(handover[0]);
  qemu_handover_.reset(handover[1]);
  control_ = std::move(line->first);
  ProcessSpec spec;
  spec.arguments = {"/proc/self/exe", "internal-pager", "--name", options_.name};
  spec.descriptors = {{line->second.fd(), kControlFd}, {memory_.get(), kMemoryFd}, {pager_handover.get(), kHandoverFd}};
  spec.ignore_terminal_signals = true;
  auto child = ChildProcess::start(spec);
  if (!child.ok()) return fail(kExitMachine, "the pager does not start: " + child.error().describe());
  pager_ = std::move(child).value();
  line->second.close();
  nlohmann::json config = {{"name", options_.name},
                           {"region_bytes", options_.memory_bytes},
                           {"local_bytes", options_.local_bytes},
                           {"prefetch_pages", options_.prefetch_pages},
                           {"prefetch_adaptive", options_.prefetch_adaptive},
                           {"compress", options_.compress},
                           {"seal", options_.seal},
                           {"insecure", options_.insecure},
                           {"shards", options_.shards},
                           {"protect", options_.nodes.empty() ? "none" : options_.protect},
                           {"spill", spill_.address},
                           {"on_loss", options_.on_loss},
                           {"repair_bytes_per_second", options_.repair_bytes_per_second},
                           {"nodes", nodes_with_tokens()},
                           {"token", options_.token},
                           {"tls_cert", options_.certificates.certificate},
                           {"tls_key", options_.certificates.key},
                           {"tls_ca", options_.certificates.authority}};
  (void)control_.send({{"config", config}}).ok();
  const Deadline by = Deadline::after_ms(kStartMs + static_cast<int>(nodes_.size()) * 5000);
  auto answer = control_.next();
  while (!answer && wait_for(control_.fd(), by)) {
    const bool open = control_.fill();
    answer = control_.next();
    if (!open) break;
  }
  if (forced_exit_) return false;
  if (!answer) return fail(kExitMachine, "the pager does not answer; HECATON_LOG=info may tell why");
  if (answer->value("event", "") == "failed")
    return fail(answer->value("code", kExitMachine), answer->value("error", ""));
  say("VM '{}': {} of RAM, {} of it here, the rest {}at {}{}", options_.name, format_size(options_.memory_bytes),
      format_size(options_.local_bytes), options_.seal ? "sealed " : "",
      options_.nodes.empty() ? "an embedded donor on this machine"
      : nodes_.size() == 1   ? "donor " + nodes_[0]
                             : fmt::format("{} donors ({})", nodes_.size(), options_.nodes_source),
      describe_protection(answer->value("protection", "")));
  return true;
}

bool Supervisor::start_qemu() {
  auto library = find_preload_library();
  if (!library) return fail(kExitMachine, "libhecaton-qemu.so is not beside hecaton; install it again");
  struct stat info {};
  fstat(memory_.get(), &info);
  const char* preloaded = getenv("LD_PRELOAD");
  ProcessSpec spec;
  spec.arguments = qemu_command_;
  const Stripes stripes = Stripes::over(pages_in(options_.memory_bytes), options_.shards);
  spec.environment = {
      {"LD_PRELOAD", preloaded && *preloaded ? *library + ":" + preloaded : *library},
      {"HECATON_PRELOAD", fmt::format("socket={} inode={}:{} shards={} stripe={}", kQemuHandoverFd, info.st_dev,
                                      info.st_ino, stripes.shards(), stripes.pages_per_stripe() * kPageBytes)}};
  spec.open_files = users_open_files();
  spec.descriptors = {{memory_.get(), kQemuMemoryFd}, {qemu_handover_.get(), kQemuHandoverFd}};
  auto child = ChildProcess::start(spec);
  qemu_handover_.reset();
  if (!child.ok()) {
    const bool missing = child.error().code == ErrorCode::kNotFound;
    return fail(
        kExitMachine,
        fmt::format("{}: {}{}", qemu_command_[0], child.error().describe(),
                    missing ? "; install it (Debian: apt install qemu-system-x86), or name it with --qemu" : ""));
  }
  qemu_ = std::move(child).value();
  return true;
}

int Supervisor::watch() {
  for (;;) {
    pollfd waiting[] = {{qemu_.pidfd(), POLLIN, 0},
                        {control_.fd(), POLLIN, 0},
                        {pager_.running() ? pager_.pidfd() : -1, POLLIN, 0},
                        {donor_.running() ? donor_.pidfd() : -1, POLLIN, 0},
                        {signals_.get(), POLLIN, 0}};
    const bool ticking = !attached_ || options_.live || end_by_ns_ != 0;
    poll(waiting, std::size(waiting), ticking ? kTickMs : -1);
    if (waiting[1].revents) on_pager_messages();
    if (waiting[0].revents) {
      Result<int> status = qemu_.wait();
      return finish(status.ok() ? *status : 0);
    }
    if (waiting[2].revents) on_pager_end();
    if (waiting[3].revents) on_donor_end();
    if (waiting[4].revents) on_signal();
    if (!attached_) check_unpaged();
    check_patience();
    if (options_.live) show_live();
  }
}

void Supervisor::on_pager_messages() {
  const bool open = control_.fill();
  while (auto message = control_.next()) {
    const std::string event = message->value("event", "");
    if (event == "attached") attached_ = true;
    if (event == "stats") stats_ = *message;
    if (event == "notice") {
      print_error("{}hecaton: {}\n", live_line_shown_ ? "\n" : "", message->value("text", ""));
      live_line_shown_ = false;
    }
    if (event == "failed") stop_guest(message->value("code", kExitMachine), message->value("error", ""));
    if (event == "poisoned") {
      print_error("hecaton: memory is lost: {}; the guest gets a memory error if it touches that\n",
                  message->value("error", ""));
    }
    if (event == "lost")
      stop_guest(kExitLost, "the guest is stopped, its memory is incomplete: " + message->value("error", ""));
  }
  if (!open) control_.close();
}

void Supervisor::on_pager_end() {
  Result<int> status = pager_.wait();
  on_pager_messages();  // its last words
  stop_guest(kExitLost, fmt::format("the guest is stopped: its pager ended ({}), and nobody can bring its memory back",
                                    status.ok() ? describe_status(*status) : "unknown"));
}

void Supervisor::on_donor_end() {
  Result<int> status = donor_.wait();
  stop_guest(
      kExitLost,
      fmt::format("the guest is stopped: the embedded donor ended ({}), and the guest memory that it held is lost",
                  status.ok() ? describe_status(*status) : "unknown"));
}

// The first signal asks QEMU to end, as it would on its own; a further one does not ask.
void Supervisor::on_signal() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == sizeof info) {
    int number = static_cast<int>(info.ssi_signo);
    // A Ctrl-C in the terminal (no sender process) went to QEMU as well; do not send it twice.
    const bool from_terminal = info.ssi_code == SI_KERNEL;
    ++signals_seen_;
    if (signals_seen_ >= 3) {
      qemu_.signal(SIGKILL);
    } else if (!from_terminal) {
      qemu_.signal(number == SIGHUP ? SIGHUP : number == SIGINT ? SIGINT : SIGTERM);
    } else if (signals_seen_ == 2) {
      qemu_.signal(SIGTERM);
    }
    if (signals_seen_ == 1) end_by_ns_ = monotonic_ns() + kEndPatienceNs;
  }
}

// QEMU was asked to end, and does not: it waits for memory that does not come, or hangs.
void Supervisor::check_patience() {
  if (end_by_ns_ == 0 || monotonic_ns() < end_by_ns_ || forced_exit_) return;
  end_by_ns_ = 0;
  print_error("hecaton: QEMU was asked to end and did not in 10 s; killing it\n");
  qemu_.signal(SIGKILL);
}

// QEMU uses the RAM although it never handed it over: the preload library was lost on the way (a set-user-ID or static
// QEMU, or a wrapper that cleans the environment).
void Supervisor::check_unpaged() {
  struct stat info {};
  if (forced_exit_ || fstat(memory_.get(), &info) != 0 || info.st_blocks == 0) return;
  on_pager_messages();
  if (attached_) return;
  stop_guest(kExitMachine,
             fmt::format("{} uses its RAM without having handed it to the pager: LD_PRELOAD did not reach it. "
                         "A set-user-ID or statically linked QEMU, or a wrapper that cleans the environment, "
                         "cannot be used",
                         qemu_command_[0]));
}

void Supervisor::stop_guest(int exit_status, const std::string& why) {
  if (forced_exit_) return;
  fail(exit_status, why);
  qemu_.signal(SIGKILL);
}

void Supervisor::ask_stats() {
  if (!pager_.running() || !control_.send({{"ask", "stats"}}).ok()) return;
  Deadline by = Deadline::after_ms(2000);
  while (auto message = control_.wait(by.remaining_ms())) {
    if (message->value("event", "") != "stats") continue;
    stats_ = *message;
    return;
  }
}

int Supervisor::finish(int wait_status) {
  // What the pager found may still be under way when the guest ends by it.
  on_pager_messages();
  ask_stats();
  if (live_line_shown_) print_error("\n");
  // A QEMU that ended before it had a guest (an option that it does not know) was not paged.
  if (!options_.quiet && attached_ && !stats_.is_null()) show_summary();
  write_report();
  if (forced_exit_) return *forced_exit_;
  if (WIFSIGNALED(wait_status)) {
    print_error("hecaton: QEMU was {}\n", describe_status(wait_status));
    return 128 + WTERMSIG(wait_status);
  }
  return WEXITSTATUS(wait_status);
}

// It gives the VM's memory back to the donors, which would keep it for a while for a pager that was killed.
void Supervisor::end_pager() {
  control_.close();
  pollfd waiting{pager_.running() ? pager_.pidfd() : -1, POLLIN, 0};
  if (waiting.fd >= 0) poll(&waiting, 1, kPagerEndMs);
}

void Supervisor::show_live() {
  const int64_t now = monotonic_ns();
  if (now - last_live_ns_ < (isatty(STDERR_FILENO) ? kLiveNs : kLiveLogNs)) return;
  if (!stats_.is_null()) {
    uint64_t faults = stats_.value("faults", uint64_t{0});
    double rate = last_live_ns_ == 0
                      ? 0
                      : static_cast<double>(faults - last_faults_) * 1e9 / static_cast<double>(now - last_live_ns_);
    last_faults_ = faults;
    print_live_line(stats_, accel_, rate);
    live_line_shown_ = isatty(STDERR_FILENO);
  }
  last_live_ns_ = now;
  if (pager_.running()) (void)control_.send({{"ask", "stats"}}).ok();
}

void Supervisor::show_summary() const {
  print_summary(stats_, accel_, static_cast<double>(monotonic_ns() - started_ns_) / 1e9);
}

void Supervisor::write_report() {
  if (options_.report_file.empty()) return;
  nlohmann::ordered_json report = {{"mode", "memory"}, {"accel", accel_}};
  if (!stats_.is_null()) report.update(stats_);
  report["mode"] = "memory";
  report["accel"] = accel_;
  report.erase("event");
  std::ofstream file(options_.report_file, std::ios::trunc);
  file << report.dump(2) << "\n";
  if (!file.flush())
    print_error("hecaton: --report {}: cannot be written: {}\n", options_.report_file, strerror(errno));
}

}  // namespace hecaton::cli
