// hecaton run: decides mode and accelerator, says why, and starts the VM.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "cli/installed.h"
#include "cli/pager_process.h"
#include "cli/run_options.h"
#include "cli/supervisor.h"
#include "cli/verbs.h"
#include "os/kvm_probe.h"
#include "os/userfaultfd.h"
#include "qemu/arguments.h"
#include "qemu/mode.h"

namespace hecaton::cli {
namespace {

int fail(int exit_status, const std::string& why) {
  fmt::print(stderr, "hecaton: {}\n", why);
  return exit_status;
}

std::string shell_quoted(const std::string& text) {
  std::string quoted = "'";
  for (char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

QemuAccels accels_of(const std::string& qemu) {
  std::string text;
  if (FILE* pipe = popen((shell_quoted(qemu) + " -accel help 2>/dev/null").c_str(), "r")) {
    char buffer[512];
    while (fgets(buffer, sizeof buffer, pipe)) text += buffer;
    pclose(pipe);
  }
  return parse_accels(text);
}

// GiantVM's own QEMU takes over, with the user's arguments as they are; this process becomes it.
int run_kernel_mode(const RunOptions& options) {
  if (options.giantvm_qemu.empty()) {
    return fail(kExitUsage,
                "mode kernel starts GiantVM's own QEMU: name it with --giantvm-qemu PATH, and give its "
                "arguments (-giantvm-id, -giantvm-conf, ...) after --; or use --mode memory");
  }
  auto qemu = find_program(options.giantvm_qemu);
  if (!qemu)
    return fail(kExitMachine, options.giantvm_qemu + ": there is no such program; --giantvm-qemu names GiantVM's QEMU");
  std::vector<char*> argv{const_cast<char*>(qemu->c_str())};
  for (const std::string& argument : options.qemu_arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  if (!options.quiet) fmt::print(stderr, "hecaton: starting {}; our paging stays asleep\n", *qemu);
  execv(qemu->c_str(), argv.data());
  return fail(kExitMachine, fmt::format("{}: {}", *qemu, strerror(errno)));
}

bool all_good(const std::vector<ArgumentProblem>& problems) {
  for (const ArgumentProblem& problem : problems) {
    fmt::print(stderr, "hecaton run: {}: {}; {}\n", problem.argument, problem.reason, problem.instead);
  }
  return problems.empty();
}

// Empty if memory mode can run here.
std::string missing_for_memory_mode() {
  Result<UffdFeatures> features = Userfaultfd::probe();
  if (!features.ok()) {
    return fmt::format(
        "userfaultfd cannot be used: {}; run as root, or give this user access to /dev/userfaultfd "
        "(hecaton doctor tells more)",
        features.error().describe());
  }
  if (!features->enough_for_memory_mode()) return "this kernel's userfaultfd is too old: Linux 5.19 or newer is needed";
  return {};
}

int run_memory_mode(const RunOptions& options, const KvmProbe& kvm) {
  if (options.memory_bytes == 0) return fail(kExitUsage, "how much RAM is the VM to have? Say -m SIZE before the --");
  if (!all_good(check_arguments(options.qemu_arguments))) return kExitUsage;
  if (std::string missing = missing_for_memory_mode(); !missing.empty()) return fail(kExitMachine, missing);
  auto qemu = find_program(options.qemu);
  if (!qemu) {
    return fail(
        kExitMachine,
        options.qemu + " is not found; install it (Debian: apt install qemu-system-x86), or name it with --qemu");
  }
  Decision<Accel> accel = decide_accel(options.accel, kvm, accels_of(*qemu));
  if (!accel.ok()) return fail(accel.exit_code, accel.reason);
  if (accel.choice == Accel::kKvm && !all_good(check_kvm_arguments(options.qemu_arguments))) return kExitUsage;
  if (!options.quiet) fmt::print(stderr, "hecaton: accelerator {}: {}\n", name_of(accel.choice), accel.reason);
  QemuPlan plan{*qemu, options.memory_bytes, kQemuMemoryFd, accel.choice, options.qemu_arguments};
  return Supervisor(options, name_of(accel.choice), qemu_command(plan)).run();
}

}  // namespace

int run(const std::vector<std::string>& arguments) {
  int exit_status = 0;
  std::optional<RunOptions> options = parse_run_options(arguments, &exit_status);
  if (!options) return exit_status;
  const KvmProbe kvm = probe_kvm();
  Decision<Mode> mode = decide_mode(options->mode, find_devices(kvm));
  if (!mode.ok()) return fail(mode.exit_code, mode.reason);
  if (!options->quiet) fmt::print(stderr, "hecaton: mode {}: {}\n", name_of(mode.choice), mode.reason);
  return mode.choice == Mode::kKernel ? run_kernel_mode(*options) : run_memory_mode(*options, kvm);
}

}  // namespace hecaton::cli
