#include "qemu/mode.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace hecaton {
namespace {

constexpr int kExitUsage = 2;
constexpr int kExitMachine = 3;
constexpr const char* kGiantvmDevice = "/dev/giantvm";

std::string rounded(double value) {
  char text[32];
  snprintf(text, sizeof text, value >= 10 ? "%.0f" : "%.2g", value);
  return text;
}

std::string speed_of(const KvmProbe& kvm) {
  if (kvm.guest_loops_per_us <= 0) return "a small guest does not run on it";
  return "a small guest loop ran " + rounded(kvm.guest_loops_per_us) + " times a microsecond, natively " +
         rounded(kvm.native_loops_per_us) + " times";
}

// Why KVM cannot be used at all; empty if it can.
std::string kvm_obstacle(const KvmProbe& kvm, const QemuAccels& qemu) {
  if (!kvm.present) return "there is no /dev/kvm";
  if (!kvm.opens && kvm.os_error != 0) return std::string("/dev/kvm does not open (") + strerror(kvm.os_error) + ")";
  if (!kvm.opens) return "/dev/kvm has API version " + std::to_string(kvm.api_version) + " instead of 12";
  if (!qemu.kvm) return "this QEMU was built without KVM";
  return {};
}

// What mends kvm_obstacle().
std::string kvm_remedy(const KvmProbe& kvm) {
  if (!kvm.present)
    return "switch virtualization on in the firmware, or nested virtualization on the host outside, and "
           "load kvm_intel or kvm_amd";
  if (!kvm.opens && (kvm.os_error == EACCES || kvm.os_error == EPERM)) return "join the group kvm, or run as root";
  if (!kvm.opens) return "look for kvm in the kernel's log";
  return "name another QEMU with --qemu";
}

}  // namespace

const char* name_of(Mode mode) {
  return mode == Mode::kKernel ? "kernel" : "memory";
}
const char* name_of(Accel accel) {
  return accel == Accel::kKvm ? "kvm" : "tcg";
}

DeviceFacts find_devices(const KvmProbe& kvm) {
  return DeviceFacts{access(kGiantvmDevice, F_OK) == 0, kvm.giantvm_dsm};
}

Decision<Mode> decide_mode(std::string_view requested, const DeviceFacts& devices) {
  const bool giantvm = devices.giantvm_device || devices.giantvm_dsm;
  const std::string found = devices.giantvm_device ? std::string(kGiantvmDevice) + " is there"
                                                   : "KVM answers GiantVM's memory sharing extension";
  if (requested == "memory") return {Mode::kMemory, 0, "it was asked for"};
  if (requested == "aggregate") {
    return {Mode::kMemory, kExitMachine, "this version cannot run aggregate VMs yet: use --mode memory"};
  }
  if (requested == "kernel" && !giantvm) {
    return {Mode::kKernel, kExitMachine,
            "--mode kernel needs GiantVM's kernel module, and there is neither /dev/giantvm nor a KVM that answers its "
            "extension: load the module, or use --mode memory"};
  }
  if (requested == "kernel") return {Mode::kKernel, 0, "it was asked for, and " + found};
  if (requested == "auto" && giantvm) return {Mode::kKernel, 0, found};
  if (requested == "auto") return {Mode::kMemory, 0, "no GiantVM kernel module is here"};
  return {Mode::kMemory, kExitUsage,
          "there is no mode '" + std::string(requested) + "': --mode takes auto, memory, kernel or aggregate"};
}

QemuAccels parse_accels(std::string_view accel_help) {
  QemuAccels accels;
  while (!accel_help.empty()) {
    size_t end = accel_help.find_first_of(" \t\r\n");
    std::string_view word = accel_help.substr(0, end);
    accels.kvm = accels.kvm || word == "kvm";
    accels.tcg = accels.tcg || word == "tcg";
    accel_help = end == std::string_view::npos ? std::string_view() : accel_help.substr(end + 1);
  }
  return accels;
}

Decision<Accel> decide_accel(std::string_view requested, const KvmProbe& kvm, const QemuAccels& qemu) {
  const std::string obstacle = kvm_obstacle(kvm, qemu);
  if (requested == "kvm") {
    if (!obstacle.empty()) {
      return {Accel::kKvm, kExitMachine, "--accel kvm cannot be: " + obstacle + "; " + kvm_remedy(kvm)};
    }
    if (!kvm.fast) return {Accel::kKvm, 0, "it was asked for, though it is slow here: " + speed_of(kvm)};
    return {Accel::kKvm, 0, "it was asked for"};
  }
  if (requested != "tcg" && requested != "auto") {
    return {Accel::kTcg, kExitUsage,
            "there is no accelerator '" + std::string(requested) + "': --accel takes auto, kvm or tcg"};
  }
  if (requested == "auto" && obstacle.empty() && kvm.fast) {
    return {Accel::kKvm, 0, "/dev/kvm opens and is fast: " + speed_of(kvm)};
  }
  const std::string no_kvm = obstacle.empty() ? "/dev/kvm opens but is slow: " + speed_of(kvm) : obstacle;
  if (qemu.tcg) return {Accel::kTcg, 0, requested == "tcg" ? "it was asked for" : no_kvm};
  if (requested == "tcg") {
    return {
        Accel::kTcg, kExitMachine,
        "--accel tcg cannot be: this QEMU was built without TCG; name another QEMU with --qemu, or use --accel kvm"};
  }
  return {Accel::kTcg, kExitMachine,
          "no accelerator is left: " + no_kvm + ", and this QEMU was built without TCG; " +
              (obstacle.empty() ? "name another QEMU with --qemu, or insist with --accel kvm" : kvm_remedy(kvm))};
}

}  // namespace hecaton
