// The pager process of `hecaton run`: config from the control line, the guest's RAM as an inherited memfd, QEMU's
// userfaultfd over the handover socket. Ends when the control line does.
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <mutex>

#include "base/log.h"
#include "cli/control.h"
#include "cli/output.h"
#include "cli/pager_process.h"
#include "cli/verbs.h"
#include "os/memory.h"
#include "pager/handover.h"
#include "pager/loss.h"
#include "pager/pager.h"

namespace hecaton::cli {
namespace {

// The control line is used by the main thread, and once by the thread that finds a loss.
class Reporter {
 public:
  explicit Reporter(ControlLine& line) : line_(line) {}
  void say(const nlohmann::json& message) {
    std::lock_guard lock(mutex_);
    (void)line_.send(message).ok();
  }

 private:
  std::mutex mutex_;
  ControlLine& line_;
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
    reporter.say({{"event", poisons ? "poisoned" : "lost"},
                  {"error", loss.reason + "; " + describe_ranges(loss)},
                  {"pages", loss.pages}});
  };
  return config;
}

// QEMU's RAM has arrived: start to serve it, and only then let QEMU go on.
Result<void> take_over_qemu(Pager& pager, Reporter& reporter, uint64_t region_bytes, bool poisons) {
  Handover handover = HEC_TRY(receive_handover(kHandoverFd, Deadline::after_ms(5000)));
  if (handover.bytes != region_bytes || handover.offset != 0) {
    (void)acknowledge(kHandoverFd, false).ok();
    return Error{ErrorCode::kProtocol, 0, "QEMU mapped another part of the RAM than it was given"};
  }
  const Stripes stripes = pager.stripes();
  if (handover.uffds.size() != stripes.shards() || handover.stripe_bytes != stripes.pages_per_stripe() * kPageBytes) {
    (void)acknowledge(kHandoverFd, false).ok();
    return Error{ErrorCode::kProtocol, 0, "QEMU's RAM is divided in another way than this pager's"};
  }
  UffdFeatures features = HEC_TRY(Userfaultfd::probe());
  if (poisons && !features.poison()) {
    (void)acknowledge(kHandoverFd, false).ok();
    return Error{ErrorCode::kUnsupported, 0, "--on-loss poison needs Linux 6.6; leave it out"};
  }
  HEC_TRY(pager.attach(std::move(handover.uffds), handover.address, features));
  // Before QEMU goes on: the supervisor takes RAM that is used without this word for RAM that is not paged.
  reporter.say({{"event", "attached"}});
  return acknowledge(kHandoverFd, true);
}

int serve(ControlLine& line, Reporter& reporter, Pager& pager, uint64_t region_bytes, bool poisons) {
  bool attached = false;
  for (;;) {
    pollfd waiting[] = {{line.fd(), POLLIN, 0}, {attached ? -1 : kHandoverFd, POLLIN, 0}};
    if (poll(waiting, 2, -1) < 0) continue;
    if (waiting[1].revents & POLLIN) {
      Result<void> taken = take_over_qemu(pager, reporter, region_bytes, poisons);
      // The end of the socket before anything was handed over: QEMU ended early, and the supervisor knows.
      if (!taken.ok() && taken.error().code != ErrorCode::kClosed) {
        return fail(reporter, kExitMachine, "QEMU's RAM cannot be paged: " + taken.error().describe());
      }
      attached = true;
    } else if (waiting[1].revents != 0) {
      attached = true;
    }
    if (waiting[0].revents == 0) continue;
    bool open = line.fill();
    while (auto message = line.next()) {
      if (message->value("ask", "") != "stats") continue;
      nlohmann::json stats = nlohmann::json::parse(stats_json(pager.stats(), "memory", ""));
      stats["event"] = "stats";
      reporter.say(stats);
    }
    if (!open) return 0;
  }
}

}  // namespace

int internal_pager(const std::vector<std::string>&) {
  start_log("hecaton-pager");
  ControlLine line{OwnedFd(kControlFd)};
  Reporter reporter(line);
  harden_process();  // before there is a token in it
  auto first = line.wait(10'000);
  if (!first || !first->contains("config")) {
    print_error("hecaton: internal-pager is started by `hecaton run`, not by hand\n");
    return kExitUsage;
  }
  PagerConfig config = config_from(first->at("config"), reporter);
  const uint64_t region_bytes = config.region_bytes;
  const bool poisons = config.on_lost_memory == OnLoss::kPoison;
  std::string problem;
  auto credentials = credentials_from(first->at("config"), &problem);
  if (!credentials.ok()) return fail(reporter, kExitMachine, problem);
  config.credentials = std::move(credentials).value();
  auto pager = Pager::create(std::move(config), kMemoryFd, &problem);
  if (!pager.ok()) return fail(reporter, kExitMachine, problem);
  reporter.say({{"event", "ready"}, {"protection", (*pager)->stats().protection}});
  return serve(line, reporter, **pager, region_bytes, poisons);
}

}  // namespace hecaton::cli
