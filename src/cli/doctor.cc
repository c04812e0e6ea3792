// hecaton doctor: what this machine can do, what each thing means, and the command that mends what is wrong.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/version.h"
#include "cli/command_line.h"
#include "cli/doctor_checks.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace hecaton::cli {
namespace {

const char* word_for(Verdict verdict) {
  switch (verdict) {
    case Verdict::kGood:
      return "ok";
    case Verdict::kNote:
      return "note";
    case Verdict::kMissing:
      return "MISSING";
  }
  return "";
}

void print_text(const std::vector<Check>& checks, bool can_run) {
  for (const Check& check : checks) {
    print_output("{:<8} {:<22} {}\n", word_for(check.verdict), check.name, check.found);
    if (check.verdict == Verdict::kGood) continue;
    print_output("{:<31} {}\n", "", check.meaning);
    if (!check.remedy.empty()) print_output("{:<31} mend: {}\n", "", check.remedy);
  }
  print_output("\n{}\n", can_run ? "This machine can run VMs in memory mode."
                                 : "This machine cannot run memory mode until what is MISSING above is there.");
}

void print_json(const std::vector<Check>& checks, bool can_run) {
  nlohmann::ordered_json json = {{"memory_mode", can_run}, {"version", kVersion}};
  json["checks"] = nlohmann::ordered_json::array();
  for (const Check& check : checks) {
    json["checks"].push_back({{"name", check.name},
                              {"verdict", word_for(check.verdict)},
                              {"found", check.found},
                              {"meaning", check.meaning},
                              {"remedy", check.remedy}});
  }
  print_output("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

int doctor(const std::vector<std::string>& arguments) {
  CLI::App app;
  app.name("hecaton doctor");
  app.description(
      "Tells what this machine can do for VMs with remote memory. Exit status 3 if memory mode cannot run.");
  DoctorOptions options;
  bool json = false;
  app.add_option("--node", options.nodes, "a donor to try to reach; default: those in cluster_uffd.conf")
      ->type_name("URL");
  app.add_option("--qemu", options.qemu, "the QEMU to look at")->type_name("PATH")->capture_default_str();
  app.add_flag("--json", json, "the same as JSON");
  if (auto status = parse_verb(app, arguments)) return *status;
  std::vector<Check> checks = examine_machine(options);
  bool can_run = true;
  for (const Check& check : checks) can_run = can_run && check.verdict != Verdict::kMissing;
  json ? print_json(checks, can_run) : print_text(checks, can_run);
  return can_run ? 0 : kExitMachine;
}

}  // namespace hecaton::cli
