#include "qemu/arguments.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>

#include "qemu/options.h"

namespace hecaton {
namespace {

struct Refusal {
  const char* reason;
  const char* instead;
};

constexpr Refusal kOwnsRam = {"hecaton makes the guest's RAM, so that it can page it",
                              "give the size to hecaton: hecaton run -m SIZE [--local SIZE] -- ..."};
constexpr Refusal kOwnsBackend = {"hecaton makes the guest's RAM, and memory beside it would not be paged",
                                  "leave it out; hecaton run -m SIZE says how much RAM there is"};
constexpr Refusal kPrealloc = {"it makes all of that memory resident at the start", "leave it out"};
constexpr Refusal kMemLock = {"it makes all of the guest's RAM resident, and keeps it so", "leave it out"};
constexpr Refusal kOwnsAccel = {"hecaton chooses the accelerator by what this machine can do",
                                "say it to hecaton: hecaton run --accel kvm (or tcg) -- ..."};
constexpr Refusal kXen = {"Xen owns the memory of its guests, so it cannot be paged", "use KVM or TCG"};
constexpr Refusal kMigration = {
    "an incoming migration that ends in postcopy would fail half way, with neither guest running",
    "load a snapshot: -loadvm"};
constexpr Refusal kDaemonize = {"hecaton must see how QEMU ends",
                                "run hecaton itself in the background, as a service or with &"};
constexpr Refusal kReadConfig = {"what the file says cannot be checked for what paged memory cannot bear",
                                 "write its settings as options"};
constexpr Refusal kVhostUser = {
    "the process behind vhost-user maps guest RAM itself, and would see memory that is elsewhere as zeros",
    "use the device that QEMU emulates: virtio-net-pci, virtio-blk-pci, -virtfs, ..."};
constexpr Refusal kVdpa = {"a vDPA device reads and writes guest RAM by its address in the machine, behind the pager",
                           "use -netdev tap with virtio-net-pci, or virtio-blk-pci with a -drive"};
constexpr Refusal kVhostScsi = {"vhost-scsi pins guest RAM while a disk writes to it, so evicted pages would lose data",
                                "use virtio-scsi-pci with scsi-hd"};
constexpr Refusal kPassthrough = {
    "a passed-through device reads and writes guest RAM by its address in the machine, behind the pager",
    "use a virtio device"};
constexpr Refusal kScsiPassthrough = {
    "SCSI passthrough pins guest RAM while the disk writes to it, so evicted pages would lose data",
    "use scsi-hd, scsi-cd or virtio-blk-pci with the same disk"};
constexpr Refusal kRemoteDevice = {
    "the process that emulates the device maps guest RAM itself, and would see memory that is elsewhere as zeros",
    "use a device that QEMU itself emulates"};
constexpr Refusal kRdma = {"RDMA pins guest RAM, so evicted pages would lose data", "use virtio-net-pci"};
constexpr Refusal kBlob = {"blob resources pin guest RAM, or share it with another process", "leave out blob=on"};
constexpr Refusal kEncrypted = {"encrypted guest RAM is pinned and cannot be moved", "leave it out"};
constexpr Refusal kDiskByVfio = {"this driver lets the disk, or another process, write to guest RAM behind the pager",
                                 "give QEMU the block device, such as -drive file=/dev/nvme0n1,format=raw"};

struct Named {
  std::string_view name;  // exact, or a prefix if it ends in '*'
  Refusal refusal;

  bool matches(std::string_view text) const {
    return name.ends_with('*') ? text.starts_with(name.substr(0, name.size() - 1)) : text == name;
  }
};

constexpr Named kOptions[] = {
    {"m", kOwnsRam},
    {"mem-path", kOwnsRam},
    {"mem-prealloc", kPrealloc},
    {"accel", kOwnsAccel},
    {"enable-kvm", kOwnsAccel},
    {"no-kvm", kOwnsAccel},
    {"xen-*", kXen},
    {"incoming", kMigration},
    {"daemonize", kDaemonize},
    {"readconfig", kReadConfig},
};
constexpr Named kObjects[] = {
    {"memory-backend-*", kOwnsBackend},
    {"vhost-user-*", kVhostUser},
    {"cryptodev-vhost-user", kVhostUser},
    {"sev-*", kEncrypted},
    {"tdx-*", kEncrypted},
    {"iommufd", kPassthrough},
    {"x-vfu-server", kRemoteDevice},
    {"x-remote-object", kRemoteDevice},
};
constexpr Named kDevices[] = {
    {"vhost-user-*", kVhostUser},       {"vhost-vdpa-*", kVdpa},          {"vhost-scsi*", kVhostScsi},
    {"vfio-user-*", kRemoteDevice},     {"vfio-*", kPassthrough},         {"x-pci-proxy-dev", kRemoteDevice},
    {"scsi-generic", kScsiPassthrough}, {"scsi-block", kScsiPassthrough}, {"pvrdma", kRdma},
};
constexpr Named kNetworks[] = {{"vhost-user", kVhostUser}, {"vhost-vdpa", kVdpa}};
constexpr Named kBlockDrivers[] = {
    {"nvme", kDiskByVfio},     {"nvme-io_uring", kDiskByVfio},         {"virtio-blk-vfio-pci", kDiskByVfio},
    {"io_uring", kDiskByVfio}, {"virtio-blk-vhost-user", kDiskByVfio}, {"virtio-blk-vhost-vdpa", kDiskByVfio},
};
constexpr Named kMachineProperties[] = {
    {"memory-backend", kOwnsBackend},
    {"memory", kOwnsRam},
    {"memory.*", kOwnsRam},
    {"accel", kOwnsAccel},
    {"memory-encryption", kEncrypted},
    {"confidential-guest-support", kEncrypted},
};
constexpr Named kNumaProperties[] = {{"mem", kOwnsBackend}, {"memdev", kOwnsBackend}};

// Without virtualization of its own: for a guest's guest KVM writes to pages (its virtual APIC, its VMCB) that it has
// pinned, which a page that is evicted in that moment would lose.
constexpr const char* kNotNested = ",vmx=off,svm=off";
constexpr Refusal kNested = {
    "for a guest that runs guests of its own, KVM pins guest RAM, so evicted pages would lose data",
    "leave it out, or use hecaton run --accel tcg"};

using Found = std::optional<Refusal>;

template <size_t kCount>
Found find(const Named (&table)[kCount], std::string_view text) {
  auto at = std::find_if(std::begin(table), std::end(table), [&](const Named& named) { return named.matches(text); });
  return at == std::end(table) ? Found() : at->refusal;
}

template <size_t kCount>
Found find_key(const Named (&table)[kCount], const QemuProperties& properties) {
  for (const auto& property : properties) {
    if (Found found = find(table, property.first)) return found;
  }
  return {};
}

// The refusal of the property `key`'s value, whichever table knows it.
template <size_t kCount>
Found find_value(const Named (&table)[kCount], const QemuProperties& properties, std::string_view key) {
  for (const auto& [name, value] : properties) {
    if (name != key) continue;
    if (Found found = find(table, value)) return found;
  }
  return {};
}

bool switched_on(const QemuProperties& properties, std::string_view key) {
  return std::any_of(properties.begin(), properties.end(),
                     [&](const auto& property) { return property.first == key && is_on(property.second); });
}

Found check_machine(const QemuProperties& properties) {
  for (const auto& [key, value] : properties) {
    if (key == "type" && value.starts_with("xen")) return kXen;
  }
  return find_key(kMachineProperties, properties);
}

Found check_device(const QemuProperties& properties) {
  if (Found found = find_value(kDevices, properties, "driver")) return found;
  if (switched_on(properties, "blob")) return kBlob;
  if (switched_on(properties, "prealloc")) return kPrealloc;
  if (switched_on(properties, "scsi")) return kScsiPassthrough;
  return {};
}

Found check_network(const QemuProperties& properties) {
  if (Found found = find_value(kNetworks, properties, "type")) return found;
  if (switched_on(properties, "vhost-user")) return kVhostUser;  // of -netdev passt
  return {};
}

// A driver may be named anywhere in a disk's graph: driver=, file.driver=, file=json:{...}, or as nvme://.
Found check_disk(const QemuProperties& properties) {
  for (const auto& [key, value] : properties) {
    bool names_driver = key == "driver" || key.ends_with(".driver");
    if (Found found = names_driver ? find(kBlockDrivers, value) : Found()) return found;
    if (value.starts_with("nvme://")) return kDiskByVfio;
    if (!value.starts_with("json:")) continue;
    if (Found found = check_disk(parse_properties(value.substr(5), ""))) return found;
  }
  return {};
}

// "-global DRIVER.PROPERTY=VALUE" and "-set GROUP.ID.PROPERTY=VALUE" reach devices that are checked elsewhere.
Found check_override(const QemuProperties& properties) {
  if (switched_on(properties, "property")) {
    QemuProperties long_form;
    for (const auto& [key, value] : properties) {
      if (key == "property") long_form.emplace_back(value, "on");
    }
    bool on = std::none_of(properties.begin(), properties.end(),
                           [](const auto& property) { return property.first == "value" && !is_on(property.second); });
    return on ? check_device(long_form) : Found();
  }
  for (const auto& [key, value] : properties) {
    size_t dot = key.rfind('.');
    if (dot == std::string::npos) continue;
    if (Found found = check_device({{key.substr(dot + 1), value}})) return found;
  }
  return {};
}

Found check_overcommit(const QemuProperties& properties) {
  return switched_on(properties, "mem-lock") ? Found(kMemLock) : Found();
}

Found check_realtime(const QemuProperties& properties) {
  bool unlocked = std::any_of(properties.begin(), properties.end(), [](const auto& property) {
    return property.first == "mlock" && !is_on(property.second);
  });
  return unlocked ? Found() : Found(kMemLock);
}

struct Rule {
  std::string_view option;
  std::string_view implied;  // the key of the first word
  Found (*check)(const QemuProperties&);
};
constexpr Rule kRules[] = {
    {"machine", "type", check_machine},
    {"M", "type", check_machine},
    {"object", "qom-type", [](const QemuProperties& p) { return find_value(kObjects, p, "qom-type"); }},
    {"device", "driver", check_device},
    {"numa", "type", [](const QemuProperties& p) { return find_key(kNumaProperties, p); }},
    {"overcommit", "", check_overcommit},
    {"realtime", "", check_realtime},
    {"netdev", "type", check_network},
    {"net", "type", check_network},
    {"nic", "type", check_network},
    {"drive", "", check_disk},
    {"blockdev", "driver", check_disk},
    {"global", "", check_override},
    {"set", "", check_override},
};
constexpr std::string_view kDiskFileOptions[] = {"",    "hda", "hdb",   "hdc",      "hdd",   "fda",
                                                 "fdb", "sd",  "cdrom", "mtdblock", "pflash"};

Found check(const QemuOption& option) {
  if (Found found = find(kOptions, option.name)) return found;
  if (std::count(std::begin(kDiskFileOptions), std::end(kDiskFileOptions), option.name) > 0) {
    return check_disk({{"file", option.value}});
  }
  for (const Rule& rule : kRules) {
    if (rule.option == option.name) return rule.check(parse_properties(option.value, rule.implied));
  }
  return {};
}

}  // namespace

std::vector<ArgumentProblem> check_arguments(std::span<const std::string> arguments) {
  std::vector<ArgumentProblem> problems;
  for (const QemuOption& option : parse_options(arguments)) {
    if (Found found = check(option)) problems.push_back({option.written, found->reason, found->instead});
  }
  return problems;
}

std::vector<ArgumentProblem> check_kvm_arguments(std::span<const std::string> arguments) {
  std::vector<ArgumentProblem> problems;
  for (const QemuOption& option : parse_options(arguments)) {
    if (option.name != "cpu") continue;
    for (const auto& [key, value] : parse_properties(option.value, "model")) {
      const bool feature = key == "vmx" || key == "svm";
      if ((feature && is_on(value)) || key == "+vmx" || key == "+svm") {
        problems.push_back({option.written, kNested.reason, kNested.instead});
      }
    }
  }
  return problems;
}

std::vector<std::string> qemu_command(const QemuPlan& plan) {
  const std::vector<QemuOption> chosen = parse_options(plan.arguments);
  const std::string size = std::to_string(plan.ram_bytes) + "B";  // a bare number would be MiB
  std::string accel = name_of(plan.accel);
  // One thread per vCPU, except where instructions are counted: QEMU refuses the two together.
  if (plan.accel == Accel::kTcg && !has_option(chosen, "icount")) accel += ",thread=multi";

  // The RAM has the name that it has without Hecaton: snapshots and states of a plain QEMU can be loaded, and the
  // reverse.
  std::vector<std::string> command = {
      plan.qemu,
      "-m",
      "size=" + size,
      "-object",
      "memory-backend-file,id=pc.ram,x-use-canonical-path-for-ramblock-id=off,size=" + size +
          ",share=on,prealloc=off,merge=off,dump=off,mem-path=/proc/self/fd/" + std::to_string(plan.ram_fd),
      "-machine",
      "memory-backend=pc.ram",
      "-accel",
      accel};
  command.insert(command.end(), plan.arguments.begin(), plan.arguments.end());
  if (plan.accel == Accel::kKvm) {
    std::string processor = "host";
    for (const QemuOption& option : chosen) {
      if (option.name == "cpu") processor = option.value;
    }
    // Of several -cpu QEMU takes the last.
    if (processor != "help" && processor != "?") command.insert(command.end(), {"-cpu", processor + kNotNested});
  }
  return command;
}

}  // namespace hecaton
