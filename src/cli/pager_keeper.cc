#include "cli/pager_keeper.h"

#include <fmt/format.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "cli/pager_process.h"
#include "cli/verbs.h"

namespace hecaton::cli {
namespace {

constexpr int64_t kStartMs = 30'000, kStartMsPerDonor = 5'000;
constexpr int64_t kEndMs = 2'000;
constexpr int64_t kNsPerMs = 1'000'000;

std::string describe(Result<int> status) {
  if (!status.ok()) return "unknown";
  if (WIFSIGNALED(*status)) {
    return fmt::format("killed by signal {} ({})", WTERMSIG(*status), strsignal(WTERMSIG(*status)));
  }
  return fmt::format("exit status {}", WEXITSTATUS(*status));
}

}  // namespace

PagerKeeper::~PagerKeeper() {
  end();
}

void PagerKeeper::end() {
  ended_ = true;
  if (!process_.running()) return;
  if (line_.open() && line_.send({{"ask", "end"}}).ok()) (void)process_.ends_by(Deadline::after_ms(kEndMs));
  process_ = ChildProcess();
  line_.close();
}

void PagerKeeper::set_configuration(nlohmann::json config) {
  config_ = std::move(config);
}

bool PagerKeeper::launch() {
  auto line = ControlLine::pair();
  if (!line.ok()) return give_up(kExitMachine, "out of descriptors"), false;
  ProcessSpec spec;
  spec.arguments = {"/proc/self/exe", "internal-pager", "--name", config_.value("name", "")};
  spec.descriptors = {{line->second.fd(), kControlFd},
                      {belongings_.memory.get(), kMemoryFd},
                      {belongings_.state.get(), kStateFd},
                      {belongings_.listen.get(), kListenFd}};
  if (belongings_.donor_line.valid()) spec.descriptors.emplace_back(belongings_.donor_line.get(), kDonorLineFd);
  spec.ignore_terminal_signals = true;
  spec.survives = true;
  auto child = ChildProcess::start(spec);
  if (!child.ok()) return give_up(kExitMachine, "the pager does not start: " + child.error().describe()), false;
  process_ = std::move(child).value();
  line_ = std::move(line->first);
  ready_ = serving_ = false;
  pinged_ns_ = 0;
  const auto donors = static_cast<int64_t>(config_.value("nodes", nlohmann::json::array()).size());
  start_by_ns_ = monotonic_ns() + (kStartMs + donors * kStartMsPerDonor) * kNsPerMs;
  (void)line_.send({{"config", config_}}).ok();
  if (attached_) send_attach();
  return true;
}

bool PagerKeeper::start(int interrupt) {
  return launch() && wait_for(ready_, interrupt);
}

// Until the pager is so far, or will never be.
bool PagerKeeper::wait_for(const bool& reached, int interrupt) {
  while (!reached && !ended_) {
    pollfd waiting[] = {{line_.fd(), POLLIN, 0}, {process_fd(), POLLIN, 0}, {interrupt, POLLIN, 0}};
    poll(waiting, std::size(waiting), tick());
    if (waiting[0].revents) on_messages();
    if (waiting[1].revents && process_.running()) on_death();
    if (waiting[2].revents) break;
  }
  return reached;
}

Result<void> PagerKeeper::adopt(ControlLine line, pid_t pid, const GuestLayout& layout,
                                std::vector<OwnedFd> descriptors) {
  process_ = HEC_TRY(ChildProcess::adopt(pid));
  line_ = std::move(line);
  layout_ = {{"base", layout.base.value}, {"stripe_bytes", layout.stripe_bytes}};
  descriptors_ = std::move(descriptors);
  ready_ = was_ready_ = attached_ = serving_ = true;
  return {};
}

bool PagerKeeper::take_over(const GuestLayout& layout, std::vector<OwnedFd> descriptors) {
  layout_ = {{"base", layout.base.value}, {"stripe_bytes", layout.stripe_bytes}};
  descriptors_ = std::move(descriptors);
  was_ready_ = attached_ = true;
  died_ns_ = monotonic_ns();
  death_seen_ = false;
  return launch() && wait_for(serving_);
}

bool PagerKeeper::attach(const GuestLayout& layout, std::vector<OwnedFd> descriptors) {
  layout_ = {{"base", layout.base.value}, {"stripe_bytes", layout.stripe_bytes}};
  descriptors_ = std::move(descriptors);
  attached_ = true;
  send_attach();
  return wait_for(serving_);
}

void PagerKeeper::send_attach() {
  std::vector<int> numbers;
  for (const OwnedFd& fd : descriptors_) numbers.push_back(fd.get());
  (void)line_.send({{"attach", layout_}}, numbers).ok();
}

void PagerKeeper::on_messages() {
  const bool open = line_.fill();
  while (auto message = line_.next()) take(*message);
  if (!open) line_.close();
}

void PagerKeeper::take(const nlohmann::json& message) {
  const std::string event = message.value("event", "");
  if (event == "ready") {
    ready_ = was_ready_ = true;
    protection_ = message.value("protection", "");
  }
  if (event == "notice") on_problem_(message.value("text", ""));
  if (event == "poisoned") {
    on_problem_(fmt::format("memory is lost: {}; the guest gets a memory error if it touches that",
                            message.value("error", "")));
  }
  if (event == "alive") pinged_ns_ = 0;
  if (event == "stats") {
    stats_ = message;
    stats_["takeover_ms"] = {{"last", takeover_ns_last_ / kNsPerMs}, {"max", takeover_ns_most_ / kNsPerMs}};
  }
  if (event == "attached") {
    serving_ = true;
    if (died_ns_ == 0) return;
    takeover_ns_last_ = monotonic_ns() - died_ns_;
    takeover_ns_most_ = std::max(takeover_ns_most_, takeover_ns_last_);
    died_ns_ = 0;
    on_notice_(!std::exchange(death_seen_, true)
                   ? "the guest goes on with a new pager"
                   : fmt::format("the guest goes on with a new pager; it waited {} ms", takeover_ns_last_ / kNsPerMs));
  }
  if (event == "failed") {
    const std::string error = message.value("error", "");
    if (!attached_) return give_up(message.value("code", kExitMachine), error);
    give_up(kExitLost, "the guest is stopped: its pager ended, and a new one cannot take over: " + error);
  }
  if (event == "lost") {
    lost_ = true;
    give_up(kExitLost, "the guest is stopped, its memory is incomplete: " + message.value("error", ""));
  }
}

void PagerKeeper::on_death() {
  const int64_t now = monotonic_ns();
  Result<int> status = process_.wait();
  on_messages();  // its last words
  line_.close();
  if (ended_) return;
  restart(describe(status));
  if (died_ns_ == 0) died_ns_ = now;
}

void PagerKeeper::restart(const std::string& why) {
  const int64_t now = monotonic_ns();
  if (died_ns_ == 0) died_ns_ = now;
  if (!was_ready_) {
    return give_up(kExitMachine,
                   fmt::format("the pager ended ({}) before it was ready; HECATON_LOG=info may tell why", why));
  }
  deaths_ns_.push_back(now);
  while (deaths_ns_.front() < now - kDeathsNs) deaths_ns_.pop_front();
  if (deaths_ns_.size() > most_deaths_) {
    return give_up(kExitLost,
                   fmt::format("the guest is stopped: its pager ended {} times within {} s, the last time: {}",
                               deaths_ns_.size(), kDeathsNs / 1'000'000'000, why));
  }
  on_notice_(fmt::format("the pager ended ({}); starting a new one", why));
  launch();
}

// Once: what comes later is its consequence. A pager that reported the loss lives on, for its figures.
void PagerKeeper::give_up(int exit_status, const std::string& why) {
  if (ended_) return;
  ended_ = true;
  on_end_(exit_status, why);
}

int PagerKeeper::tick() {
  const int64_t now = monotonic_ns();
  if (ended_ || !process_.running()) return 1000;
  const bool starting = !ready_ || (attached_ && !serving_);
  if (starting) {
    if (now >= start_by_ns_) process_.signal(SIGKILL);
    return static_cast<int>(std::clamp<int64_t>((start_by_ns_ - now) / kNsPerMs + 1, 1, 1000));
  }
  // What it has said since is read before it is judged: this process may have been stopped itself.
  if (pinged_ns_ != 0 && now - pinged_ns_ > kSilentNs) {
    on_messages();
    if (pinged_ns_ != 0) {
      event_log().error("the pager is silent for {} s: it is killed", kSilentNs / 1'000'000'000);
      process_.signal(SIGKILL);
      died_ns_ = pinged_ns_;  // from then on the guest may have waited
      pinged_ns_ = now;
    }
  } else if (pinged_ns_ == 0 && now >= next_ping_ns_) {
    pinged_ns_ = now;
    next_ping_ns_ = now + kPingNs;
    (void)line_.send({{"ask", "ping"}}).ok();
  }
  return 1000;
}

void PagerKeeper::ask_stats() {
  if (line_.open() && serving_) (void)line_.send({{"ask", "stats"}}).ok();
}

void PagerKeeper::refresh_stats() {
  if (!line_.open() || !line_.send({{"ask", "stats"}}).ok()) return;
  const Deadline by = Deadline::after_ms(2000);
  while (auto message = line_.wait(by.remaining_ms())) {
    take(*message);
    if (message->value("event", "") == "stats") return;
  }
}

}  // namespace hecaton::cli
