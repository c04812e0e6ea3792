// The start of a VM: its name, donors of its own, the pager, QEMU.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>

#include "base/stripes.h"
#include "base/units.h"
#include "cli/installed.h"
#include "cli/output.h"
#include "cli/pager_process.h"
#include "cli/supervisor.h"
#include "cli/verbs.h"
#include "os/memory.h"
#include "pager/state_memory.h"

namespace hecaton::cli {
namespace {

// Our own donors keep the VM's memory however long it is without a pager; their line ends them.
constexpr const char* kGraceSeconds = "86400";

}  // namespace

bool Supervisor::claim_name() {
  Result<OwnedFd> lock = folder_.claim();
  if (!lock.ok() && lock.error().code == ErrorCode::kBusy) {
    return fail(kExitUsage, fmt::format("a VM '{0}' is running; give this one another --name. If that one has lost its "
                                        "supervisor: hecaton resume-pager {0}",
                                        options_.name));
  }
  if (!lock.ok()) return fail(kExitMachine, fmt::format("{}: {}", folder_.path(), lock.error().describe()));
  name_lock_ = std::move(lock).value();
  Result<OwnedFd> watcher = folder_.begin_watching();
  Result<OwnedFd> listen = folder_.listen();
  if (!watcher.ok()) return fail(kExitMachine, fmt::format("{}: {}", folder_.path(), watcher.error().describe()));
  if (!listen.ok()) return fail(kExitMachine, fmt::format("{}: {}", folder_.path(), listen.error().describe()));
  watcher_lock_ = std::move(watcher).value();
  pager_.belongings().listen = std::move(listen).value();
  return true;
}

bool Supervisor::start_donor() {
  return options_.nodes.empty() ? start_embedded_donor() : options_.protect == "none" || start_spill();
}

Result<LocalDonor> Supervisor::start_own_donor(std::vector<std::string> options, std::string* problem) {
  const uint64_t size = extents_in(pages_in(options_.memory_bytes)) * kExtentBytes;
  options.insert(options.end(), {"--size", std::to_string(size), "--grace", kGraceSeconds});
  Result<LocalDonor> donor = start_local_donor(std::move(options), Survives::kYes, problem);
  if (donor.ok()) pager_.belongings().donor_line = std::move(donor->line);
  return donor;
}

bool Supervisor::start_embedded_donor() {
  std::string problem;
  Result<LocalDonor> donor = start_own_donor({}, &problem);
  if (!donor.ok()) {
    return fail(kExitMachine, "the embedded donor does not start: " + problem + "; or name donors with --node");
  }
  donor_ = std::move(donor->process);
  nodes_.push_back(donor->address);
  return true;
}

// For what protection asks of this machine's disk. Whether it is needed, the pager decides: it costs next to nothing.
bool Supervisor::start_spill() {
  const std::string directory = options_.spill_directory.empty() ? "/var/tmp" : options_.spill_directory;
  std::string problem;
  Result<LocalDonor> spill = start_own_donor({"--backing", directory}, &problem);
  if (spill.ok()) {
    spill_ = std::move(spill).value();
    warn_if_short_of_disk(directory);
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

void Supervisor::warn_if_short_of_disk(const std::string& directory) const {
  struct statvfs system {};
  if (statvfs(directory.c_str(), &system) != 0) return;
  const uint64_t free_bytes = static_cast<uint64_t>(system.f_bavail) * system.f_frsize;
  const bool will_be_used = options_.nodes.size() == 1 || options_.protect == "spill";
  if (!will_be_used || free_bytes >= options_.memory_bytes) return;
  print_error(
      "hecaton: {} has only {} free for pages of the VM, which has {}: when it is full, further pages are NOT "
      "protected; make room there, name another directory with --spill-dir, or another donor\n",
      directory, format_size(free_bytes), format_size(options_.memory_bytes));
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
  int handover[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, handover) != 0) {
    return fail(kExitMachine, "out of descriptors");
  }
  handover_.reset(handover[0]);
  qemu_handover_.reset(handover[1]);
  auto memory = create_memfd("hecaton-ram", options_.memory_bytes);
  if (!memory.ok()) {
    return fail(kExitMachine,
                "the VM's RAM cannot be made: " + memory.error().describe() +
                    (memory.error().os_error == EFBIG ? "; `ulimit -f` limits it: ulimit -f unlimited" : ""));
  }
  auto state = StateMemory::create_file(options_.memory_bytes, options_.seal);
  if (!state.ok()) return fail(kExitMachine, "the pager's memory cannot be made: " + state.error().describe());
  nlohmann::json config = {{"name", options_.name},
                           {"accel", accel_},
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
                           {"local_donor", pager_.belongings().donor_line.valid()},
                           {"nodes", nodes_with_tokens()},
                           {"token", options_.token},
                           {"tls_cert", options_.certificates.certificate},
                           {"tls_key", options_.certificates.key},
                           {"tls_ca", options_.certificates.authority}};
  // Whoever resumes may be in another directory.
  const std::string report = options_.report_file.empty() ? "" : std::filesystem::absolute(options_.report_file);
  const nlohmann::json kept = {{"pager", config}, {"report", report}};
  const std::string text = kept.dump();
  if (text.size() > StateMemory::kMostConfiguration) return fail(kExitUsage, "too many donors are named");
  auto opened = StateMemory::open(state->get());
  if (!opened.ok()) return fail(kExitMachine, "the pager's memory cannot be used: " + opened.error().describe());
  opened->set_configuration(text);
  pager_.belongings().memory = std::move(memory).value();
  pager_.belongings().state = std::move(state).value();
  pager_.set_configuration(std::move(config));
  pager_.set_most_deaths(options_.most_pager_deaths);
  if (!pager_.start(signals_.get())) {
    if (!forced_exit_) end_before_the_start();
    return false;
  }
  say(fmt::format("VM '{}': {} of RAM, {} of it here, the rest {}at {}{}", options_.name,
                  format_size(options_.memory_bytes), format_size(options_.local_bytes), options_.seal ? "sealed " : "",
                  options_.nodes.empty() ? "an embedded donor on this machine"
                  : nodes_.size() == 1   ? "donor " + nodes_[0]
                                         : fmt::format("{} donors ({})", nodes_.size(), options_.nodes_source),
                  describe_protection(pager_.protection())));
  return true;
}

bool Supervisor::start_qemu() {
  auto library = find_preload_library();
  if (!library) return fail(kExitMachine, "libhecaton-qemu.so is not beside hecaton; install it again");
  struct stat info {};
  fstat(pager_.belongings().memory.get(), &info);
  const char* preloaded = getenv("LD_PRELOAD");
  ProcessSpec spec;
  spec.arguments = qemu_command_;
  const Stripes stripes = Stripes::over(pages_in(options_.memory_bytes), options_.shards);
  spec.environment = {{"LD_PRELOAD", preloaded && *preloaded ? *library + ":" + preloaded : *library},
                      {"HECATON_PRELOAD", fmt::format("socket={} inode={}:{} shards={} stripe={} keep={}:3",
                                                      kQemuHandoverFd, info.st_dev, info.st_ino, stripes.shards(),
                                                      stripes.pages_per_stripe() * kPageBytes, kQemuStateFd)}};
  spec.open_files = users_open_files();
  spec.survives = true;
  const PagerBelongings& belongings = pager_.belongings();
  spec.descriptors = {{belongings.memory.get(), kQemuMemoryFd},
                      {qemu_handover_.get(), kQemuHandoverFd},
                      {belongings.state.get(), kQemuStateFd},
                      {name_lock_.get(), kQemuLockFd}};
  if (belongings.donor_line.valid()) spec.descriptors.emplace_back(belongings.donor_line.get(), kQemuDonorFd);
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
  if (Result<void> noted = folder_.write_qemu(qemu_.pid(), name_lock_.get()); !noted.ok()) {
    return fail(kExitMachine, noted.error().describe());
  }
  return true;
}

}  // namespace hecaton::cli
