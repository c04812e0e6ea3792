// hecaton: one virtual machine on the memory of many machines. This file only finds the verb.
#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/version.h"
#include "cli/verbs.h"

namespace {

constexpr const char* kHelp =
    R"(hecaton runs one virtual machine on the memory of many machines.

  hecaton run -m SIZE [options] -- QEMU ARGUMENTS   start a VM; hecaton run --help tells the options
  hecaton doctor                                    what this machine can do, and how to mend what it cannot
  hecaton bench fault                               what a page fault to a donor costs here

Machines that lend memory run hecatond (hecatond --help).

Example: a VM with 8 GiB, 2 GiB of it here and the rest on another PC of a network that you trust:
  other PC:   hecatond --size 8G --listen 0.0.0.0:9999 --insecure
  this PC:    hecaton run -m 8G --local 2G --node 192.0.2.7 --insecure -- -hda disk.qcow2

  --help, --version
)";

struct Verb {
  const char* name;
  int (*run)(const std::vector<std::string>&);
};
constexpr Verb kVerbs[] = {
    {"run", hecaton::cli::run},
    {"doctor", hecaton::cli::doctor},
    {"bench", hecaton::cli::bench},
    {"internal-pager", hecaton::cli::internal_pager},  // started by run
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  hecaton::start_log("hecaton");
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    fmt::print(arguments.empty() ? stderr : stdout, "{}", kHelp);
    return arguments.empty() ? hecaton::cli::kExitUsage : 0;
  }
  if (arguments[0] == "--version" || arguments[0] == "-V") {
    fmt::print("hecaton {}\n", hecaton::kVersion);
    return 0;
  }
  for (const Verb& verb : kVerbs) {
    if (arguments[0] == verb.name) return verb.run({arguments.begin() + 1, arguments.end()});
  }
  fmt::print(stderr, "hecaton: there is no '{}'; the verbs are run, doctor and bench (hecaton --help)\n", arguments[0]);
  return hecaton::cli::kExitUsage;
}
