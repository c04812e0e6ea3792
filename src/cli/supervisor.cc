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
#include "pager/handover.h"
#include "pager/state_memory.h"

namespace hecaton::cli {
namespace {

constexpr int kTickMs = 50;
constexpr int64_t kLiveNs = 500'000'000;
constexpr int64_t kLiveLogNs = 5'000'000'000;  // where lines are not redrawn but pile up
constexpr int64_t kEndPatienceNs = 10'000'000'000;
std::string describe_status(int status) {
  if (WIFSIGNALED(status))
    return fmt::format("killed by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
  return fmt::format("exit status {}", WEXITSTATUS(status));
}

}  // namespace

Supervisor::Supervisor(const RunOptions& options, std::string accel, std::vector<std::string> qemu_command)
    : options_(options),
      accel_(std::move(accel)),
      qemu_command_(std::move(qemu_command)),
      report_file_(options.report_file),
      folder_(options.name),
      pager_([this](int exit_status, const std::string& why) { stop_guest(exit_status, why); },
             [this](const std::string& words) { say(words); },
             [this](const std::string& problem) {
               print_error("{}hecaton: {}\n", live_line_shown_ ? "\n" : "", problem);
               live_line_shown_ = false;
             }) {
  termios now;
  if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &now) == 0) terminal_ = now;
}

// QEMU leaves the terminal in raw mode if it is killed.
Supervisor::~Supervisor() {
  qemu_ = ChildProcess();  // before its pager, and it holds the name
  pager_.end();
  name_lock_.reset();
  watcher_lock_.reset();
  folder_.remove_if_free();
  if (!terminal_) return;
  signal(SIGTTOU, SIG_IGN);
  tcsetattr(STDIN_FILENO, TCSANOW, &*terminal_);
}

void Supervisor::say(const std::string& words) const {
  if (!options_.quiet) print_error("hecaton: {}\n", words);
}

bool Supervisor::fail(int exit_status, const std::string& why) {
  print_error("{}hecaton: {}\n", live_line_shown_ ? "\n" : "", why);
  live_line_shown_ = false;
  forced_exit_ = exit_status;
  return false;
}

int Supervisor::run() {
  started_ns_ = monotonic_ns();
  if (!prepare() || !claim_name() || !start_donor() || !start_pager() || !start_qemu()) {
    return *forced_exit_;
  }
  return watch();
}

bool Supervisor::prepare() {
  sigset_t handled;
  sigemptyset(&handled);
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&handled, number);
  sigprocmask(SIG_BLOCK, &handled, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signals_.reset(signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
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

int Supervisor::watch() {
  for (;;) {
    pollfd waiting[] = {{qemu_.pidfd(), POLLIN, 0},       {pager_.line_fd(), POLLIN, 0},
                        {pager_.process_fd(), POLLIN, 0}, {donor_.running() ? donor_.pidfd() : -1, POLLIN, 0},
                        {signals_.get(), POLLIN, 0},      {handover_.get(), POLLIN, 0}};
    const bool ticking = !pager_.attached() || options_.live || end_by_ns_ != 0;
    const int tick_ms = pager_.tick();
    poll(waiting, std::size(waiting), ticking ? kTickMs : tick_ms);
    if (waiting[1].revents) pager_.on_messages();
    if (waiting[5].revents) on_handover();
    if (waiting[0].revents) {
      Result<int> status = qemu_.wait();
      return finish(status.ok() ? *status : 0);
    }
    if (waiting[2].revents) pager_.on_death();
    if (waiting[3].revents) on_donor_end();
    if (waiting[4].revents) on_signal();
    if (!pager_.attached()) check_unpaged();
    check_patience();
    if (options_.live) show_live();
  }
}

// QEMU's RAM has arrived: a pager serves it, and only then QEMU goes on.
void Supervisor::on_handover() {
  Result<Handover> handover = receive_handover(handover_.get(), Deadline::after_ms(5000));
  const OwnedFd socket = std::move(handover_);
  if (!handover.ok() && handover.error().code == ErrorCode::kClosed) return;  // QEMU ended early
  if (!handover.ok()) return stop_guest(kExitMachine, "QEMU's RAM cannot be paged: " + handover.error().describe());
  const Stripes stripes = Stripes::over(pages_in(options_.memory_bytes), options_.shards);
  if (handover->bytes != options_.memory_bytes || handover->offset != 0 || handover->uffds.size() != stripes.shards() ||
      handover->stripe_bytes != stripes.pages_per_stripe() * kPageBytes) {
    (void)acknowledge(socket.get(), false).ok();
    return stop_guest(kExitMachine, "QEMU mapped another part of the RAM, or in another way, than it was told");
  }
  const GuestLayout layout{handover->address, handover->stripe_bytes, stripes.shards(), handover->pid,
                           handover->descriptors};
  if (auto state = StateMemory::open(pager_.belongings().state.get()); state.ok()) state->set_layout(layout);
  std::vector<OwnedFd> descriptors;
  descriptors.push_back(duplicate(qemu_.pidfd()));
  for (const Userfaultfd& uffd : handover->uffds) descriptors.push_back(duplicate(uffd.fd()));
  // An error ends QEMU: its mmap fails with the socket's end.
  if (pager_.attach(layout, std::move(descriptors))) (void)acknowledge(socket.get(), true).ok();
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
  if (forced_exit_ || fstat(pager_.belongings().memory.get(), &info) != 0 || info.st_blocks == 0) return;
  pollfd waiting{handover_.get(), POLLIN, 0};
  if (poll(&waiting, 1, 0) > 0) on_handover();
  if (pager_.attached()) return;
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

int Supervisor::finish(int wait_status) {
  // What the pager found may still be under way when the guest ends by it.
  pager_.on_messages();
  pager_.refresh_stats();
  if (live_line_shown_) print_error("\n");
  // A QEMU that ended before it had a guest (an option that it does not know) was not paged.
  if (!options_.quiet && pager_.attached() && !pager_.stats().is_null()) show_summary();
  write_report();
  if (forced_exit_) return *forced_exit_;
  if (WIFSIGNALED(wait_status)) {
    print_error("hecaton: QEMU was {}\n", describe_status(wait_status));
    return 128 + WTERMSIG(wait_status);
  }
  return WEXITSTATUS(wait_status);
}

void Supervisor::show_live() {
  const int64_t now = monotonic_ns();
  if (now - last_live_ns_ < (isatty(STDERR_FILENO) ? kLiveNs : kLiveLogNs)) return;
  if (!pager_.stats().is_null()) {
    uint64_t faults = pager_.stats().value("faults", uint64_t{0});
    double rate = last_live_ns_ == 0
                      ? 0
                      : static_cast<double>(faults - last_faults_) * 1e9 / static_cast<double>(now - last_live_ns_);
    last_faults_ = faults;
    print_live_line(pager_.stats(), accel_, rate);
    live_line_shown_ = isatty(STDERR_FILENO);
  }
  last_live_ns_ = now;
  pager_.ask_stats();
}

void Supervisor::show_summary() const {
  print_summary(pager_.stats(), accel_, static_cast<double>(monotonic_ns() - started_ns_) / 1e9);
}

void Supervisor::write_report() {
  if (report_file_.empty()) return;
  nlohmann::ordered_json report = {{"mode", "memory"}, {"accel", accel_}};
  if (!pager_.stats().is_null()) report.update(pager_.stats());
  report["mode"] = "memory";
  report["accel"] = accel_;
  report.erase("event");
  std::ofstream file(report_file_, std::ios::trunc);
  file << report.dump(2) << "\n";
  if (!file.flush()) print_error("hecaton: --report {}: cannot be written: {}\n", report_file_, strerror(errno));
}

}  // namespace hecaton::cli
