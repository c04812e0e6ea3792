// hecaton run: decides mode and accelerator, says why, and starts the VM.
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "cli/installed.h"
#include "cli/output.h"
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
  print_error("hecaton: {}\n", why);
  return exit_status;
}

// Asks QEMU itself what it was built with.
Result<QemuAccels> accels_of(const std::string& qemu) {
  return parse_accels(HEC_TRY(output_of({qemu, "-accel", "help"}, Deadline::after_ms(20'000))));
}

// GiantVM's own QEMU takes over, with the user's arguments as they are; this process becomes it.
int run_kernel_mode(const RunOptions& options) {
  if (options.giantvm_qemu.empty()) {
    return fail(kExitUsage,
                "mode kernel starts GiantVM's own QEMU: name it with --giantvm-qemu PATH, and give its "
                "arguments (-giantvm-id, -giantvm-conf, ...) after --; or use --mode memory");
  }
  std::string problem;
  auto qemu = find_program(options.giantvm_qemu, &problem);
  if (!qemu) return fail(kExitMachine, problem + "; --giantvm-qemu names GiantVM's own QEMU");
  std::vector<char*> argv{const_cast<char*>(qemu->c_str())};
  for (const std::string& argument : options.qemu_arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  if (!options.quiet) print_error("hecaton: starting {}; our paging stays asleep\n", *qemu);
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = users_open_files();
    setrlimit(RLIMIT_NOFILE, &files);
  }
  for (int number : {SIGPIPE, SIGXFSZ}) signal(number, SIG_DFL);
  execv(qemu->c_str(), argv.data());
  return fail(kExitMachine, fmt::format("{}: {}", *qemu, strerror(errno)));
}

bool all_good(const std::vector<ArgumentProblem>& problems) {
  for (const ArgumentProblem& problem : problems) {
    print_error("hecaton run: {}: {}; {}\n", problem.argument, problem.reason, problem.instead);
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
  std::string problem;
  auto qemu = find_program(options.qemu, &problem);
  if (!qemu) {
    const bool missing = problem.ends_with("not found");
    return fail(kExitMachine,
                problem + (missing ? "; install it (Debian: apt install qemu-system-x86), or name another with --qemu"
                                   : "; name a QEMU with --qemu"));
  }
  Result<QemuAccels> accels = accels_of(*qemu);
  if (!accels.ok())
    return fail(kExitMachine, *qemu + " -accel help: " + accels.error().describe() + "; is that a QEMU?");
  if (!accels->kvm && !accels->tcg)
    return fail(kExitMachine, fmt::format("{0} names no accelerator: it is no QEMU, or does not start here. "
                                          "`{0} -accel help` shows what it says",
                                          *qemu));
  Decision<Accel> accel = decide_accel(options.accel, kvm, *accels);
  if (!accel.ok()) return fail(accel.exit_code, accel.reason);
  if (accel.choice == Accel::kKvm && !all_good(check_kvm_arguments(options.qemu_arguments))) return kExitUsage;
  if (!options.quiet) print_error("hecaton: accelerator {}: {}\n", name_of(accel.choice), accel.reason);
  QemuPlan plan{*qemu, options.memory_bytes, kQemuMemoryFd, accel.choice, options.qemu_arguments};
  return Supervisor(options, name_of(accel.choice), qemu_command(plan)).run();
}

}  // namespace

int run(const std::vector<std::string>& arguments) {
  int exit_status = 0;
  std::optional<RunOptions> options = parse_run_options(arguments, &exit_status);
  if (!options) return exit_status;
  if (options->has_secrets()) {  // they reach no core dump
    prctl(PR_SET_DUMPABLE, 0);
  }
  const KvmProbe kvm = probe_kvm();
  Decision<Mode> mode = decide_mode(options->mode, find_devices(kvm));
  if (!mode.ok()) return fail(mode.exit_code, mode.reason);
  if (!options->quiet) print_error("hecaton: mode {}: {}\n", name_of(mode.choice), mode.reason);
  return mode.choice == Mode::kKernel ? run_kernel_mode(*options) : run_memory_mode(*options, kvm);
}

}  // namespace hecaton::cli
