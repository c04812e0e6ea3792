// hecaton resume-pager: a new supervisor for a VM whose `hecaton run` was killed.
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/run_options.h"
#include "cli/supervisor.h"
#include "cli/verbs.h"

namespace hecaton::cli {

int resume_pager(const std::vector<std::string>& arguments) {
  RunOptions options;
  CLI::App app;
  app.name("hecaton resume-pager");
  app.description("Watches over a VM again whose `hecaton run` was killed; starts it a new pager if that is gone too.");
  app.footer(
      "The guest runs on without its supervisor, and sleeps without its pager; neither loses anything by it. This\n"
      "command stays until the VM ends, and replaces its pager when that dies, as `hecaton run` does.\n"
      "Exit status: as of hecaton run. (Before Linux 6.15, QEMU's own status is not known here, and counts as 0.)");
  app.add_option("NAME", options.name, "the VM's --name")->required();
  app.add_option("--report", options.report_file,
                 "write the run's figures there, as JSON, at the end (default: as the run)")
      ->type_name("FILE");
  app.add_flag("--live", options.live, "show a line of live figures on stderr");
  app.add_flag("-q,--quiet", options.quiet, "say nothing but problems");
  if (auto status = parse_verb(app, arguments)) return *status;
  if (!is_vm_name(options.name)) {
    print_error("hecaton resume-pager: '{}' is no name of a VM; hecaton status lists those that run\n",
                harmless(options.name));
    return kExitUsage;
  }
  return Supervisor(options, "", {}).resume();
}

}  // namespace hecaton::cli
