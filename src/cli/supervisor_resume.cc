// A VM that has lost its supervisor gets another, which takes over from the pager or, if that is gone, from QEMU.
#include <fmt/format.h>

#include "cli/pager_process.h"
#include "cli/supervisor.h"
#include "cli/verbs.h"
#include "pager/state_memory.h"

namespace hecaton::cli {
namespace {

constexpr int kAdoptMs = 5'000;

}  // namespace

int Supervisor::resume() {
  started_ns_ = monotonic_ns();
  if (!prepare() || !find_orphan()) return *forced_exit_;
  say(fmt::format("VM '{}' has a supervisor again", options_.name));
  return watch();
}

bool Supervisor::find_orphan() {
  if (!folder_.taken()) {
    folder_.remove_if_free();
    return fail(kExitUsage, fmt::format("no VM '{}' is running; hecaton status lists those that are", options_.name));
  }
  Result<OwnedFd> watcher = folder_.begin_watching();
  if (!watcher.ok() && watcher.error().code == ErrorCode::kBusy) {
    return fail(kExitUsage, fmt::format("VM '{}' has a supervisor, which replaces its pager by itself", options_.name));
  }
  if (!watcher.ok()) return fail(kExitMachine, fmt::format("{}: {}", folder_.path(), watcher.error().describe()));
  watcher_lock_ = std::move(watcher).value();
  const std::optional<pid_t> pid = folder_.qemu();
  Result<ChildProcess> qemu = pid ? ChildProcess::adopt(*pid) : Error{ErrorCode::kNotFound, 0, "nobody wrote it down"};
  if (!qemu.ok()) return fail(kExitMachine, "QEMU's process is not found: " + qemu.error().describe());
  qemu_ = std::move(qemu).value();
  Result<OwnedFd> connection = folder_.connect();
  const bool taken = connection.ok() ? take_from_pager(ControlLine(std::move(connection).value())) : take_from_qemu();
  if (!taken && forced_exit_) qemu_.release();  // it may still be had by somebody with more rights
  return taken;
}

bool Supervisor::read_kept_configuration() {
  auto state = StateMemory::open(pager_.belongings().state.get());
  if (!state.ok()) return fail(kExitMachine, "the pager's memory cannot be used: " + state.error().describe());
  const auto kept = nlohmann::json::parse(state->configuration(), nullptr, false);
  if (!kept.is_object() || !kept.contains("pager")) return fail(kExitMachine, "the pager's memory is incomplete");
  accel_ = kept.at("pager").value("accel", "");
  if (report_file_.empty()) report_file_ = kept.value("report", "");
  pager_.set_configuration(kept.at("pager"));
  return true;
}

bool Supervisor::take_from_pager(ControlLine line) {
  (void)line.send({{"ask", "adopt"}}).ok();
  auto answer = line.wait(kAdoptMs);
  if (!answer && !line.fill()) return take_from_qemu();  // it was on its way out: killed a moment ago
  std::vector<OwnedFd> descriptors = line.take_descriptors();
  if (!answer || answer->value("event", "") != "adopted" || descriptors.size() < 4) {
    return fail(kExitMachine, fmt::format("the pager of VM '{}' does not let itself be taken: {}", options_.name,
                                          answer ? answer->value("error", "") : "no answer; kill it and try again"));
  }
  PagerBelongings& belongings = pager_.belongings();
  belongings.memory = std::move(descriptors[0]);
  belongings.state = std::move(descriptors[1]);
  belongings.listen = std::move(descriptors[2]);
  descriptors.erase(descriptors.begin(), descriptors.begin() + 3);
  if (answer->value("local_donor", false)) {
    belongings.donor_line = std::move(descriptors.front());
    descriptors.erase(descriptors.begin());
  }
  descriptors.insert(descriptors.begin(), duplicate(qemu_.pidfd()));
  if (!read_kept_configuration()) return false;
  auto layout = StateMemory::open(belongings.state.get())->layout();
  Result<void> adopted = layout
                             ? pager_.adopt(std::move(line), answer->value("pid", 0), *layout, std::move(descriptors))
                             : Error{ErrorCode::kCorrupt, 0, "QEMU's RAM was never handed over"};
  return adopted.ok() || fail(kExitMachine, "the pager cannot be watched: " + adopted.error().describe());
}

// The pager is gone too: QEMU has kept what it takes to start another.
bool Supervisor::take_from_qemu() {
  PagerBelongings& belongings = pager_.belongings();
  auto take = [&](Result<OwnedFd> from, OwnedFd& to) -> Result<void> {
    to = HEC_TRY(std::move(from));
    return {};
  };
  auto take_all = [&]() -> Result<void> {
    HEC_TRY(take(take_descriptor(qemu_.pidfd(), kQemuStateFd), belongings.state));
    HEC_TRY(take(take_descriptor(qemu_.pidfd(), kQemuMemoryFd), belongings.memory));
    return take(folder_.listen(), belongings.listen);
  };
  if (Result<void> taken = take_all(); !taken.ok()) {
    return fail(kExitMachine, "the pager's memory cannot be taken from QEMU: " + taken.error().describe());
  }
  if (!read_kept_configuration()) return false;
  if (pager_.configuration().value("local_donor", false)) {
    (void)take(take_descriptor(qemu_.pidfd(), kQemuDonorFd), belongings.donor_line).ok();
  }
  const auto layout = StateMemory::open(belongings.state.get())->layout();
  if (!layout) return fail(kExitMachine, "QEMU's RAM was never handed over");
  // What was started as QEMU may be a script that started it.
  Result<ChildProcess> owner = ChildProcess::adopt(layout->pid);
  if (!owner.ok()) return fail(kExitMachine, "QEMU's process is not found: " + owner.error().describe());
  std::vector<OwnedFd> descriptors;
  descriptors.push_back(duplicate(qemu_.pidfd()));
  for (unsigned shard = 0; shard < layout->shards; ++shard) {
    Result<OwnedFd> uffd = take_descriptor(owner->pidfd(), layout->descriptors[shard]);
    if (!uffd.ok()) {
      owner->release();
      return fail(kExitMachine, "QEMU's userfaultfds cannot be taken: " + uffd.error().describe());
    }
    descriptors.push_back(std::move(uffd).value());
  }
  owner->release();
  return pager_.take_over(*layout, std::move(descriptors));
}

}  // namespace hecaton::cli
