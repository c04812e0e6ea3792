// Decides, from facts, in which mode and on which accelerator a VM runs, and says why. Pure but for find_devices().
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "os/kvm_probe.h"

namespace hecaton {

enum class Mode : uint8_t {
  kMemory,  // one host, RAM at donors
  kKernel,  // GiantVM's kernel module does the work; Hecaton starts that QEMU and stays asleep
};
enum class Accel : uint8_t { kKvm, kTcg };

const char* name_of(Mode mode);
const char* name_of(Accel accel);

// What was decided and why. `reason` is one sentence for the user, without a full stop; if `exit_code` is not 0 there
// is no choice, and the reason says what is missing and what to do.
template <typename Choice>
struct Decision {
  Choice choice{};
  int exit_code = 0;  // 3: this machine cannot do it; 2: no such request
  std::string reason;

  bool ok() const { return exit_code == 0; }
};

struct DeviceFacts {
  bool giantvm_device = false;  // /dev/giantvm is there
  bool giantvm_dsm = false;     // KVM answers GiantVM's extension
};
DeviceFacts find_devices(const KvmProbe& kvm);

// `requested`: auto, memory, kernel or aggregate.
Decision<Mode> decide_mode(std::string_view requested, const DeviceFacts& devices);

struct QemuAccels {
  bool kvm = false;
  bool tcg = false;
};
// From what `qemu-system-x86_64 -accel help` prints.
QemuAccels parse_accels(std::string_view accel_help);

// `requested`: auto, kvm or tcg. KVM that is not fast is taken only if it is asked for by name.
Decision<Accel> decide_accel(std::string_view requested, const KvmProbe& kvm, const QemuAccels& qemu);

}  // namespace hecaton
