// hecaton status: the VMs that run here, each with the figures that its pager tells.
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/ask_pager.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/run_options.h"
#include "cli/runtime_folder.h"
#include "cli/verbs.h"

namespace hecaton::cli {
namespace {

constexpr int kAnswerMs = 3000;

// Without figures if its pager does not answer now.
nlohmann::ordered_json look_at(const std::string& name) {
  nlohmann::ordered_json vm = {{"name", name}};
  auto answer = ask_pager(name, {{"ask", "stats"}}, kAnswerMs);
  vm["pager"] = answer ? "answers" : "gone or silent";
  if (answer) {
    answer->erase("event");
    vm.update(*answer);
  }
  return vm;
}

void show(const nlohmann::ordered_json& vm) {
  if (!vm.contains("guest_ram_bytes")) {
    print_output("{}: its pager is gone or silent; hecaton resume-pager {}\n", vm.value("name", ""),
                 vm.value("name", ""));
    return;
  }
  auto size = [&](const char* figure) { return format_size(vm.value(figure, uint64_t{0})); };
  print_output("{}: {} of RAM, {} here of at most {}, {} at donors; {} faults; {} pagers before this one\n",
               vm.value("name", ""), size("guest_ram_bytes"), size("resident_bytes"), size("local_limit_bytes"),
               size("remote_bytes"), vm.value("faults", uint64_t{0}), vm.value("pager_restarts", uint64_t{0}));
  if (vm.value("exposed_bytes", uint64_t{0}) == 0) return;
  print_output("{}: NOT protected: up to {} of it are at one place only; hecaton pool list {}\n", vm.value("name", ""),
               size("exposed_bytes"), vm.value("name", ""));
}

}  // namespace

int status(const std::vector<std::string>& arguments) {
  std::string name;
  bool json = false;
  CLI::App app;
  app.name("hecaton status");
  app.description("Lists the VMs that run here for this user, with their figures.");
  app.add_option("NAME", name, "only this VM");
  app.add_flag("--json", json, "all figures, as JSON: an object for each VM, in an array; with NAME only the object");
  if (auto status = parse_verb(app, arguments)) return *status;
  nlohmann::ordered_json found = nlohmann::ordered_json::array();
  for (const std::string& vm : RuntimeFolder::names()) {
    RuntimeFolder folder(vm);
    if (!name.empty() && vm != name) continue;
    if (folder.taken()) {
      found.push_back(look_at(vm));
    } else {
      folder.remove_if_free();  // left behind by a VM that was killed as a whole
    }
  }
  if (!name.empty() && found.empty()) {
    print_error("hecaton status: no VM '{}' is running here for this user\n", harmless(name));
    return kExitUsage;
  }
  if (json) {
    print_output("{}\n", (name.empty() ? found : found.front()).dump(2));
    return 0;
  }
  if (found.empty()) print_output("no VM is running here for this user\n");
  for (const auto& vm : found) show(vm);
  return 0;
}

}  // namespace hecaton::cli
