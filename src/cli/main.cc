// hecaton: one virtual machine on the memory of many machines. This file only finds the verb.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/version.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "os/open_files.h"
#include "wire/token.h"

namespace {

constexpr const char* kHelp =
    R"(hecaton runs one virtual machine on the memory of many machines.

  hecaton run -m SIZE [options] -- QEMU ARGUMENTS   start a VM; hecaton run --help tells the options
  hecaton status [NAME]                             the VMs that run here, and their figures
  hecaton resume-pager NAME                         watches over a VM again whose `hecaton run` was killed
  hecaton pool list|add|drain|remove NAME [URL]     the donors of a VM that runs, and changes to them
  hecaton doctor                                    what this machine can do, and how to mend what it cannot
  hecaton bench all                                 what paging costs here, beside what the machine itself can do

Machines that lend memory run hecatond (hecatond --help).

Example: a VM with 8 GiB, 2 GiB of it here and the rest on another PC:
  other PC:   hecatond --size 8G --listen 0.0.0.0:9999 --token-file token
  this PC:    put the URL that it prints into a file (chmod 600 donors.conf), then
              hecaton run -m 8G --local 2G --nodes donors.conf -- -hda disk.qcow2

  --help, --version
)";

struct Verb {
  const char* name;
  int (*run)(const std::vector<std::string>&);
};
constexpr Verb kVerbs[] = {
    {"run", hecaton::cli::run},
    {"status", hecaton::cli::status},
    {"resume-pager", hecaton::cli::resume_pager},
    {"pool", hecaton::cli::pool},
    {"doctor", hecaton::cli::doctor},
    {"bench", hecaton::cli::bench},
    {"internal-pager", hecaton::cli::internal_pager},    // started by run
    {"internal-donors", hecaton::cli::internal_donors},  // started by bench
    {"internal-tcp", hecaton::cli::internal_tcp},        // the same
};

using hecaton::cli::print_error;
using hecaton::cli::print_output;

// Many descriptors may be open, for many donors; a failed write is an error code, not a signal.
void prepare_process() {
  hecaton::have_standard_descriptors();
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    hecaton::cli::users_open_files() = files.rlim_cur;
    files.rlim_cur = std::max(files.rlim_cur, std::min<rlim_t>(files.rlim_max, 65536));
    setrlimit(RLIMIT_NOFILE, &files);
  }
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
}

// What was said is kept; what is left in the process's arguments, which every user can see, loses its tokens. It was
// visible for a moment: files are better.
void hide_tokens(int argc, char** argv) {
  for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; ++i) {
    char* at = strrchr(argv[i], '@');
    if (!at) continue;
    char* scheme = strstr(argv[i], "://");
    char* first = scheme && scheme < at ? scheme + 3 : argv[i];
    if (char* value = strchr(first, '='); value && value < at) first = value + 1;
    memset(first, '*', static_cast<size_t>(at - first));
  }
}

int run_verb(const std::vector<std::string>& arguments) {
  if (arguments.size() == 2 && arguments[0] == "help") return run_verb({arguments[1], "--help"});
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    hecaton::cli::write_text(arguments.empty() ? stderr : stdout, kHelp);
    return arguments.empty() ? hecaton::cli::kExitUsage : 0;
  }
  if (arguments[0] == "--version" || arguments[0] == "-V") {
    print_output("hecaton {}\n", hecaton::kVersion);
    return 0;
  }
  for (const Verb& verb : kVerbs) {
    if (arguments[0] == verb.name) return verb.run({arguments.begin() + 1, arguments.end()});
  }
  print_error(
      "hecaton: there is no '{}'; the verbs are run, status, resume-pager, pool, doctor and bench (hecaton --help)\n",
      hecaton::without_tokens(arguments[0]));
  return hecaton::cli::kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  hecaton::start_log("hecaton");
  prepare_process();
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  hide_tokens(argc, argv);
  const int status = run_verb(arguments);
  if (fflush(stdout) == 0 && !ferror(stdout)) return status;
  print_error("hecaton: the output could not be written: {}\n", strerror(errno));
  return status == 0 ? 1 : status;
}
