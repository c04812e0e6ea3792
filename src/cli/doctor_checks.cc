#include "cli/doctor_checks.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>

#include "base/random.h"
#include "base/units.h"
#include "cli/installed.h"
#include "cli/nodes_file.h"
#include "cli/output.h"
#include "os/kvm_probe.h"
#include "os/memory.h"
#include "os/process.h"
#include "os/userfaultfd.h"
#include "store/donor_client.h"
#include "transport/rdma.h"

namespace hecaton::cli {
namespace {

std::string first_line_of(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

Check check_kernel() {
  utsname name{};
  uname(&name);
  int major = 0, minor = 0;
  sscanf(name.release, "%d.%d", &major, &minor);
  bool enough = major > 5 || (major == 5 && minor >= 19);
  return {"kernel", enough ? Verdict::kGood : Verdict::kMissing, fmt::format("Linux {}", name.release),
          "guest RAM is paged with write protection and minor faults on shared memory, which Linux has since 5.19",
          enough ? "" : "install a newer kernel (Debian 12 has 6.1)"};
}

Check check_userfaultfd(UffdFeatures* features) {
  UffdSource source{};
  Result<UffdFeatures> probed = Userfaultfd::probe(&source);
  if (!probed.ok()) {
    return {"userfaultfd", Verdict::kMissing, probed.error().describe(),
            "the pager serves the guest's page faults through a userfaultfd that also sees faults in the kernel",
            "run as root, or: chgrp kvm /dev/userfaultfd && chmod g+rw /dev/userfaultfd (Linux 6.1), or: sysctl "
            "vm.unprivileged_userfaultfd=1"};
  }
  *features = *probed;
  bool enough = probed->enough_for_memory_mode();
  std::string list = fmt::format(
      "by {}: missing {}, minor {}, write-protect {}, discard events {}, protected map {}, poison {}",
      source == UffdSource::kSyscall ? "system call" : "/dev/userfaultfd", probed->missing_shmem(),
      probed->minor_shmem(), probed->wp_shmem(), probed->event_remove(), probed->continue_wp(), probed->poison());
  return {"userfaultfd", enough ? Verdict::kGood : Verdict::kMissing, list,
          "missing, minor, write-protect and discard events are needed; protected map (6.4) and poison (6.6) help",
          enough ? "" : "install a newer kernel (Debian 12 has 6.1)"};
}

Check check_privileges() {
  if (geteuid() == 0) return {"privileges", Verdict::kGood, "root", "", ""};
  return {"privileges", Verdict::kNote, fmt::format("user id {}", geteuid()),
          "works without root if userfaultfd is allowed (see there) and the limits below are high enough", ""};
}

Check check_kvm() {
  const char* meaning =
      "without a fast KVM the guest runs on TCG, QEMU's own translator: correct, but several times slower";
  KvmProbe probe = probe_kvm();
  if (!probe.present) {
    return {"kvm", Verdict::kNote, "no /dev/kvm", meaning,
            "modprobe kvm_intel (or kvm_amd); turn virtualization on in the firmware"};
  }
  if (!probe.opens) {
    return {"kvm", Verdict::kNote, fmt::format("/dev/kvm cannot be opened: {}", strerror(probe.os_error)), meaning,
            "adduser $USER kvm, then log in again"};
  }
  std::string speed = fmt::format("guest loop {:.2g}, native {:.0f} rounds a microsecond", probe.guest_loops_per_us,
                                  probe.native_loops_per_us);
  if (!probe.fast) {
    return {"kvm", Verdict::kNote, "/dev/kvm opens, but interprets guests: " + speed, meaning,
            "use a machine, or a cloud instance type, with nested virtualization"};
  }
  return {"kvm", Verdict::kGood, "fast: " + speed, "", ""};
}

Check check_giantvm() {
  bool there = access("/dev/giantvm", F_OK) == 0;
  return {"giantvm", Verdict::kGood,
          there ? "/dev/giantvm is there: mode kernel is possible" : "no module: mode memory", "", ""};
}

Check check_huge_pages() {
  std::string setting = first_line_of("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  size_t from = setting.find('['), to = setting.find(']');
  std::string chosen = from == std::string::npos ? "not there" : setting.substr(from + 1, to - from - 1);
  bool forced = chosen == "force";
  return {
      "huge pages in shmem", forced ? Verdict::kNote : Verdict::kGood, chosen,
      "`force` ignores that the pager asks for small pages: one filled page can make 512 resident, beyond the budget",
      forced ? "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled" : ""};
}

Check check_limit(const char* name, __rlimit_resource resource, uint64_t enough, const char* meaning,
                  const char* remedy) {
  rlimit limit{};
  getrlimit(resource, &limit);
  const bool endless = limit.rlim_cur == RLIM_INFINITY;
  const bool good = endless || limit.rlim_cur >= enough || (resource == RLIMIT_MEMLOCK && geteuid() == 0);
  std::string found = endless                      ? "unlimited"
                      : resource == RLIMIT_MEMLOCK ? format_size(limit.rlim_cur)
                                                   : std::to_string(limit.rlim_cur);
  return {name, good ? Verdict::kGood : Verdict::kNote, found, meaning, good ? "" : remedy};
}

Check check_rdma() {
  const char* meaning = "rdma:// donors need it; others are reached over TCP";
  auto problem = rdma_problem();
  if (!problem) {
    return {"rdma", Verdict::kGood, fmt::format("{}: rdma:// is possible", fmt::join(rdma_devices(), ", ")), "", ""};
  }
  // Most machines have no such card, and lack nothing.
  return {"rdma", problem->has_device ? Verdict::kNote : Verdict::kGood, problem->missing, meaning, problem->remedy};
}

Check check_qemu(const std::string& name) {
  const char* meaning = "the VM runs in a stock QEMU";
  std::string problem;
  auto path = find_program(name, &problem);
  if (!path) return {"qemu", Verdict::kMissing, problem, meaning, "apt install qemu-system-x86"};
  Result<std::string> output = output_of({*path, "--version"}, Deadline::after_ms(10'000));
  std::string version = output.ok() ? output->substr(0, output->find('\n')) : "";
  bool good = version.find("QEMU emulator version") == 0;
  return {"qemu", good ? Verdict::kGood : Verdict::kMissing, good ? version : *path + " does not say that it is QEMU",
          meaning, good ? "" : "apt install qemu-system-x86, or name another with --qemu"};
}

Check check_parts() {
  bool library = find_preload_library().has_value(), donor = find_hecatond().has_value();
  bool good = library && donor;
  return {
      "hecaton's own parts", library ? (good ? Verdict::kGood : Verdict::kNote) : Verdict::kMissing,
      fmt::format("libhecaton-qemu.so {}, hecatond {}", library ? "found" : "not found", donor ? "found" : "not found"),
      "the library hands QEMU's RAM to the pager; hecatond is needed for an embedded donor",
      good ? "" : "install hecaton again"};
}

Check check_memory() {
  std::ifstream file("/proc/meminfo");
  uint64_t total = 0, available = 0;
  for (std::string line; std::getline(file, line);) {
    sscanf(line.c_str(), "MemTotal: %lu", &total);
    sscanf(line.c_str(), "MemAvailable: %lu", &available);
  }
  return {"memory", Verdict::kGood,
          fmt::format("{} of {} available", format_size(available << 10), format_size(total << 10)), "", ""};
}

Check check_donor(const NodeUrl& url) {
  const std::string name = "donor " + url.printable();
  std::string detail;
  auto stream = connect_to(url, Credentials(), Deadline::after_ms(2000));
  const char* const no_start = "a VM that names this donor would not start";
  if (!stream.ok() && stream.error().code == ErrorCode::kUntrusted) {
    return {name, Verdict::kNote, stream.error().context, no_start, ""};
  }
  if (!stream.ok()) {
    return {name, Verdict::kNote, stream.error().describe(), no_start,
            fmt::format("on that machine: hecatond --size SIZE --listen {}{}", url.printable(),
                        url.is_loopback() ? "" : " --token-file FILE")};
  }
  LinkBuffers buffers(wire::kHeaderBytes);
  auto client = DonorClient::handshake(std::move(*stream), wire::Role::kControl, random_id(), buffers,
                                       Deadline::after_ms(2000), &detail);
  if (!client.ok() && client.error().code == ErrorCode::kPermission && !detail.empty()) {
    return {name, Verdict::kNote, detail, no_start, ""};
  }
  if (!client.ok()) {
    return {name, Verdict::kNote, detail.empty() ? client.error().describe() : detail,
            "something answers there, but it is not a hecatond of this version",
            "check the port, and the version there"};
  }
  return {name, Verdict::kGood,
          fmt::format("{}: lends {}, {} free", client->donor().software, format_size(client->donor().lends_bytes),
                      format_size(client->donor().free_bytes)),
          "", ""};
}

void check_donors(const DoctorOptions& options, std::vector<Check>* checks) {
  std::vector<NodeUrl> urls;
  for (const std::string& text : options.nodes) {
    Result<NodeUrl> url = parse_node_url(text);
    if (url.ok())
      urls.push_back(*url);
    else
      checks->push_back({"donor '" + harmless(text) + "'", Verdict::kNote, url.error().context,
                         "a VM that names this donor would not start", "write it as HOST or HOST:PORT"});
  }
  if (struct stat info; options.nodes.empty() && lstat(kDefaultNodesFile, &info) == 0) {
    NodesFile file = read_nodes_file(kDefaultNodesFile);
    for (const std::string& problem : file.problems) {
      checks->push_back({"nodes file", Verdict::kNote, problem, "a VM would not start from this folder",
                         "write one HOST or HOST:PORT a line"});
    }
    urls = std::move(file.nodes);
  }
  for (const NodeUrl& url : urls) checks->push_back(check_donor(url));
}

}  // namespace

std::vector<Check> examine_machine(const DoctorOptions& options) {
  UffdFeatures features;
  std::vector<Check> checks;
  checks.push_back(check_kernel());
  checks.push_back(check_userfaultfd(&features));
  checks.push_back(check_privileges());
  checks.push_back(check_kvm());
  checks.push_back(check_giantvm());
  checks.push_back(check_huge_pages());
  checks.push_back(check_limit("locked memory limit", RLIMIT_MEMLOCK, 256_MiB,
                               "the pager locks its own memory, so that serving a fault never waits for the disk",
                               "ulimit -l unlimited (in /etc/security/limits.conf: memlock)"));
  checks.push_back(check_limit("open files limit", RLIMIT_NOFILE, 1024,
                               "each donor takes three descriptors of the pager", "ulimit -n 65536"));
  checks.push_back(check_rdma());
  checks.push_back(check_qemu(options.qemu));
  checks.push_back(check_parts());
  checks.push_back(check_memory());
  check_donors(options, &checks);
  return checks;
}

}  // namespace hecaton::cli
