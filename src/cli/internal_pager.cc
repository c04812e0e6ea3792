// The pager process of `hecaton run`: config, then QEMU's userfaultfds, from the control line; the guest's RAM and the
// state memory as inherited memfds. Serves a guest that has lost its supervisor until that guest ends.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "cli/control.h"
#include "cli/output.h"
#include "cli/pager_process.h"
#include "cli/runtime_folder.h"
#include "cli/verbs.h"
#include "os/memory.h"
#include "pager/loss.h"
#include "pager/pager.h"

namespace hecaton::cli {
namespace {

// The control line is used by the main thread, and once by the thread that finds a loss.
class Reporter {
 public:
  explicit Reporter(ControlLine line) : line_(std::move(line)) {}

  void say(const nlohmann::json& message, std::span<const int> descriptors = {}) {
    std::lock_guard lock(mutex_);
    if (line_.open()) (void)line_.send(message, descriptors).ok();
  }
  // The guest must end, by the hand of its supervisor; without one, by ours: it must not wait for memory for ever.
  void say_lost(const nlohmann::json& message) {
    std::lock_guard lock(mutex_);
    lost_ = message;
    if (line_.open() && line_.send(message).ok()) return;
    event_log().error("the guest is ended, its memory is incomplete: {}", message.value("error", ""));
    if (qemu_.valid()) syscall(SYS_pidfd_send_signal, qemu_.get(), SIGKILL, nullptr, 0);
  }
  // Main thread only.
  ControlLine& line() { return line_; }
  void set_qemu(OwnedFd pidfd) {
    std::lock_guard lock(mutex_);
    qemu_ = std::move(pidfd);
  }
  int qemu() const { return qemu_.get(); }
  void close_line() {
    std::lock_guard lock(mutex_);
    line_.close();
    if (!lost_.is_null() && qemu_.valid()) syscall(SYS_pidfd_send_signal, qemu_.get(), SIGKILL, nullptr, 0);
  }
  void take_line(ControlLine line) {
    std::lock_guard lock(mutex_);
    line_ = std::move(line);
  }

 private:
  std::mutex mutex_;
  ControlLine line_;
  OwnedFd qemu_;  // QEMU's process
  nlohmann::json lost_;
};

int fail(Reporter& reporter, int code, const std::string& problem) {
  reporter.say({{"event", "failed"}, {"error", problem}, {"code", code}});
  return code;
}

// Page faults are served by this process: it must not be paged out, killed first, or dumped with the guest's memory.
void harden_process() {
  prctl(PR_SET_NAME, "hecaton-pager");
  prctl(PR_SET_DUMPABLE, 0);
  rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  if (FILE* score = fopen("/proc/self/oom_score_adj", "w")) {
    fputs("-900", score);  // needs privilege; without it the default stays
    fclose(score);
  }
  if (Result<void> locked = lock_process_memory(); !locked.ok()) {
    event_log().warn(
        "the pager's own memory is not locked ({}): a machine short of memory may stall the guest; "
        "raise `ulimit -l` or run as root",
        locked.error().describe());
  }
}

Result<Credentials> credentials_from(const nlohmann::json& json, std::string* problem) {
  return Credentials::make(json.at("token"), {json.at("tls_cert"), json.at("tls_key"), json.at("tls_ca")}, problem);
}

PagerConfig config_from(const nlohmann::json& json, Reporter& reporter) {
  PagerConfig config;
  config.state_fd = kStateFd;
  config.name = json.at("name");
  config.region_bytes = json.at("region_bytes");
  config.local_bytes = json.at("local_bytes");
  config.prefetch_pages = json.at("prefetch_pages");
  config.prefetch_adaptive = json.at("prefetch_adaptive");
  const std::string compress = json.at("compress");
  config.compression = compress == "off" ? Compression::kOff : compress == "on" ? Compression::kOn : Compression::kAuto;
  config.seal = json.at("seal");
  config.insecure = json.at("insecure");
  const std::string protect = json.at("protect");
  if (protect == "auto") config.protection = std::nullopt;
  if (protect == "mirror") config.protection = Protection::kMirror;
  if (protect == "spill") config.protection = Protection::kSpill;
  if (Result<NodeUrl> spill = parse_node_url(json.at("spill").get<std::string>()); spill.ok()) {
    config.local_disk = std::move(spill).value();
  }
  config.on_lost_memory = json.at("on_loss") == "poison" ? OnLoss::kPoison : OnLoss::kStop;
  config.repair_bytes_per_second = json.at("repair_bytes_per_second");
  config.on_notice = [&reporter](const std::string& text) { reporter.say({{"event", "notice"}, {"text", text}}); };
  config.shards = json.at("shards");
  for (const std::string node : json.at("nodes")) {
    Result<NodeUrl> url = parse_node_url(node);
    if (url.ok()) config.nodes.push_back(std::move(url).value());
  }
  const bool poisons = config.on_lost_memory == OnLoss::kPoison;
  config.on_loss = [&reporter, poisons](const LossReport& loss) {
    const nlohmann::json message = {{"event", poisons ? "poisoned" : "lost"},
                                    {"error", loss.reason + "; " + describe_ranges(loss)},
                                    {"pages", loss.pages}};
    poisons ? reporter.say(message) : reporter.say_lost(message);
  };
  return config;
}

// Talks to the supervisor, or to whoever comes while there is none, and watches QEMU. One thread.
class PagerProcess {
 public:
  PagerProcess(Reporter& reporter, std::unique_ptr<Pager> pager, std::string vm_name, std::string accel,
               bool local_donor, bool poisons)
      : reporter_(reporter),
        pager_(std::move(pager)),
        vm_name_(std::move(vm_name)),
        accel_(std::move(accel)),
        poisons_(poisons),
        local_donor_(local_donor) {}

  ~PagerProcess() {
    if (pool_worker_.joinable()) pool_worker_.join();
  }

  int serve() {
    if (!hear_supervisor()) return exit_status_;  // what has come with the configuration
    for (;;) {
      // While there is a supervisor, QEMU's end is its affair.
      const bool alone = !reporter_.line().open();
      std::vector<pollfd> waiting{
          {reporter_.line().fd(), POLLIN, 0}, {alone ? reporter_.qemu() : -1, POLLIN, 0}, {kListenFd, POLLIN, 0}};
      for (const ControlLine& caller : callers_) waiting.push_back({caller.fd(), POLLIN, 0});
      if (poll(waiting.data(), waiting.size(), -1) < 0) continue;
      if (waiting[0].revents != 0 && !hear_supervisor()) return exit_status_;
      if (waiting[1].revents != 0) return end_with_guest();
      for (size_t i = waiting.size(); i-- > 3;) {
        if (waiting[i].revents != 0) hear_caller(i - 3);
      }
      if (waiting[2].revents != 0) accept_caller();
    }
  }

 private:
  // False: this process ends.
  bool hear_supervisor() {
    ControlLine& line = reporter_.line();
    const bool open = line.fill();
    while (auto message = line.next()) {
      if (message->contains("attach") && !attach(message->at("attach"), line.take_descriptors())) return false;
      const std::string ask = message->value("ask", "");
      if (ask == "stats") reporter_.say(stats());
      if (ask == "ping" && threads_live()) reporter_.say({{"event", "alive"}});
      if (ask == "end") return end(0);
    }
    if (open) return true;
    reporter_.close_line();
    if (reporter_.qemu() < 0) return end(0);  // nobody needs it yet
    event_log().warn("VM '{}' has lost its supervisor and goes on; `hecaton resume-pager {}` gives it a new one",
                     vm_name_, vm_name_);
    return true;
  }

  // A thread may wait for a donor that does not answer, until it counts as lost; longer than that it hangs.
  bool threads_live() {
    const int64_t now = monotonic_ns();
    if (pager_->goes_round()) went_round_ns_ = now;
    if (now - went_round_ns_ < kThreadPatienceNs) return true;
    event_log().error("a thread of the pager hangs");
    return false;
  }

  bool end(int status) {
    if (pool_worker_.joinable()) pool_worker_.join();
    pager_->stop();
    pager_->close_region();
    exit_status_ = status;
    return false;
  }

  int end_with_guest() {
    end(0);
    RuntimeFolder(vm_name_).remove_if_free();
    return exit_status_;
  }

  bool attach(const nlohmann::json& message, std::vector<OwnedFd> descriptors) {
    const Stripes stripes = pager_->stripes();
    if (descriptors.size() != stripes.shards() + 1 ||
        message.value("stripe_bytes", uint64_t{0}) != stripes.pages_per_stripe() * kPageBytes) {
      fail(reporter_, kExitMachine, "QEMU's RAM is divided in another way than this pager's");
      return false;
    }
    base_ = RemoteAddress{message.at("base")};
    reporter_.set_qemu(std::move(descriptors.front()));
    std::vector<Userfaultfd> uffds;
    for (size_t i = 1; i < descriptors.size(); ++i) {
      uffd_numbers_.push_back(descriptors[i].get());
      uffds.emplace_back(std::move(descriptors[i]));
    }
    Result<UffdFeatures> features = Userfaultfd::probe();
    if (features.ok() && poisons_ && !features->poison()) {
      features = Error{ErrorCode::kUnsupported, 0, "--on-loss poison needs Linux 6.6; leave it out"};
    }
    Result<void> attached =
        features.ok() ? pager_->attach(std::move(uffds), base_, *features) : Result<void>(features.error());
    if (!attached.ok()) {
      fail(reporter_, kExitMachine, "QEMU's RAM cannot be paged: " + attached.error().describe());
      return false;
    }
    reporter_.say({{"event", "attached"}});
    return true;
  }

  nlohmann::json stats() const {
    nlohmann::json stats = nlohmann::json::parse(stats_json(pager_->stats(), "memory", accel_));
    stats["event"] = "stats";
    return stats;
  }

  void accept_caller() {
    OwnedFd fd(accept4(kListenFd, nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd.valid() || callers_.size() >= kMostCallers) return;
    const timeval patience{2, 0};  // a caller that does not read must not hold this thread up
    setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    callers_.emplace_back(std::move(fd));
  }

  void hear_caller(size_t number) {
    ControlLine& caller = callers_[number];
    bool open = caller.fill();
    while (auto message = caller.next()) {
      const std::string ask = message->value("ask", "");
      if (ask == "stats") open = caller.send(stats()).ok() && open;
      if (ask == "pool" && !pool_busy_.load()) {
        change_pool(std::move(caller), *message);
        open = false;
        break;
      }
      if (ask == "pool") {
        open = caller.send({{"event", "failed"}, {"error", "another change of the pool is under way; try again"}}).ok();
      }
      if (ask == "adopt") {
        adopt(std::move(caller));
        open = false;
        break;
      }
    }
    if (!open) callers_.erase(callers_.begin() + static_cast<std::ptrdiff_t>(number));
  }

  // On a thread of its own, for it may wait for the network; this one has to answer its supervisor.
  void change_pool(ControlLine caller, const nlohmann::json& message) {
    if (pool_worker_.joinable()) pool_worker_.join();  // it is done
    pool_busy_.store(true);
    pool_worker_ = std::thread([this, line = std::move(caller), message]() mutable {
      std::string problem;
      const Result<void> done = apply(message, &problem);
      if (!done.ok() && problem.empty()) problem = done.error().describe();
      const nlohmann::json answer =
          done.ok() ? nlohmann::json{{"event", "pool"}} : nlohmann::json{{"event", "failed"}, {"error", problem}};
      (void)line.send(answer).ok();
      pool_busy_.store(false);
    });
  }

  Result<void> apply(const nlohmann::json& message, std::string* problem) {
    const NodeUrl url = HEC_TRY(parse_node_url(message.value("url", "")));
    const std::string change = message.value("change", "");
    if (change == "add") return pager_->add_donor(url, problem);
    if (change == "drain") return pager_->drain_donor(url, problem);
    if (change == "remove") return pager_->remove_donor(url, message.value("force", false), problem);
    return Error{ErrorCode::kUnsupported, 0, "no such change of the pool"};
  }

  void adopt(ControlLine caller) {
    if (reporter_.line().open() || reporter_.qemu() < 0) {
      (void)caller.send({{"event", "refused"}, {"error", "its supervisor lives"}}).ok();
      return;
    }
    reporter_.take_line(std::move(caller));
    std::vector<int> descriptors{kMemoryFd, kStateFd, kListenFd};
    if (local_donor_) descriptors.push_back(kDonorLineFd);
    descriptors.insert(descriptors.end(), uffd_numbers_.begin(), uffd_numbers_.end());
    reporter_.say({{"event", "adopted"}, {"pid", getpid()}, {"local_donor", local_donor_}}, descriptors);
  }

  static constexpr size_t kMostCallers = 16;
  static constexpr int64_t kThreadPatienceNs = 15'000'000'000;
  Reporter& reporter_;
  const std::unique_ptr<Pager> pager_;
  const std::string vm_name_, accel_;
  const bool poisons_;
  const bool local_donor_;  // its line is kDonorLineFd
  RemoteAddress base_;
  std::vector<int> uffd_numbers_;
  std::vector<ControlLine> callers_;
  std::atomic<bool> pool_busy_{false};
  std::thread pool_worker_;
  int64_t went_round_ns_ = monotonic_ns();
  int exit_status_ = kExitMachine;
};

}  // namespace

int internal_pager(const std::vector<std::string>&) {
  start_log("hecaton-pager");
  for (int fd : {kControlFd, kMemoryFd, kStateFd, kListenFd}) fcntl(fd, F_SETFD, FD_CLOEXEC);
  Reporter reporter{ControlLine{OwnedFd(kControlFd)}};
  harden_process();  // before there is a token in it
  auto first = reporter.line().wait(10'000);
  if (!first || !first->contains("config")) {
    print_error("hecaton: internal-pager is started by `hecaton run`, not by hand\n");
    return kExitUsage;
  }
  const bool local_donor = first->at("config").value("local_donor", false);
  if (local_donor) fcntl(kDonorLineFd, F_SETFD, FD_CLOEXEC);
  PagerConfig config = config_from(first->at("config"), reporter);
  const std::string vm_name = config.name, accel = first->at("config").value("accel", "");
  const bool poisons = config.on_lost_memory == OnLoss::kPoison;
  std::string problem;
  auto credentials = credentials_from(first->at("config"), &problem);
  if (!credentials.ok()) return fail(reporter, kExitMachine, problem);
  config.credentials = std::move(credentials).value();
  auto pager = Pager::create(std::move(config), kMemoryFd, &problem);
  if (!pager.ok()) return fail(reporter, kExitMachine, problem);
  reporter.say({{"event", "ready"}, {"protection", (*pager)->stats().protection}});
  return PagerProcess(reporter, std::move(pager).value(), vm_name, accel, local_donor, poisons).serve();
}

}  // namespace hecaton::cli
