// QEMU's command line: which of the user's arguments paged memory cannot bear, and the whole that is started. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "qemu/mode.h"

namespace hecaton {

// An argument that is refused. All three are fit to be shown: "ARGUMENT: REASON; INSTEAD".
struct ArgumentProblem {
  std::string argument;  // as the user wrote it, with its value
  std::string reason;
  std::string instead;  // what to write, or to do
};

// All of them, in the order of the command line. Options are read as QEMU reads them: -x and --x are the same, an
// option's value is never taken for an option, properties may be KEY=VALUE,... or JSON.
std::vector<ArgumentProblem> check_arguments(std::span<const std::string> arguments);

// The same for what only KVM cannot bear: a guest that runs guests of its own, for which KVM pins pages of its RAM.
std::vector<ArgumentProblem> check_kvm_arguments(std::span<const std::string> arguments);

struct QemuPlan {
  std::string qemu;        // program
  uint64_t ram_bytes = 0;  // a multiple of kRamGranularity
  int ram_fd = -1;         // the memory file's number in QEMU
  Accel accel = Accel::kTcg;
  std::vector<std::string> arguments;  // the user's, checked
};

// QEMU rounds RAM up to whole 8 KiB, and the memory file must be exactly as large.
inline constexpr uint64_t kRamGranularity = 8192;

// argv, [0] included. On KVM the guest gets the processor model that the user chose, else the host's; either way
// without virtualization of its own.
std::vector<std::string> qemu_command(const QemuPlan& plan);

}  // namespace hecaton
