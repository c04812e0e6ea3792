// hecaton pool: the donors of a VM that runs, and changes to them.
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/ask_pager.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/run_options.h"
#include "cli/runtime_folder.h"
#include "cli/verbs.h"
#include "wire/node_url.h"

namespace hecaton::cli {
namespace {

constexpr int kAnswerMs = 60'000;  // a donor that is added is connected to first

struct PoolOptions {
  std::string change, name, url;
  bool force = false, json = false;
};

void describe(CLI::App& app, PoolOptions& options) {
  app.name("hecaton pool");
  app.description("Shows and changes the donors of a VM that runs.");
  app.require_subcommand(1);
  auto verb = [&](const char* change, const char* what, bool with_url) {
    CLI::App* sub = app.add_subcommand(change, what);
    sub->add_option("NAME", options.name, "the VM's --name")->required();
    if (with_url) sub->add_option("URL", options.url, "the donor, [TOKEN@]HOST[:PORT]")->required();
    sub->callback([&options, change] { options.change = change; });
    return sub;
  };
  verb("list", "the donors, how they are doing, and what they hold", false)
      ->add_flag("--json", options.json, "as JSON: protection, and nodes with url, state and bytes");
  verb("add", "one more donor", true);
  verb("drain", "move away what a donor holds, so that it can be removed; pool list tells when it is empty", true);
  verb("remove", "use a donor no more", true)
      ->add_flag("--force", options.force, "though it holds memory: what has no other copy is lost");
}

// What the VM's pager says; nothing, and a message, if it does not.
std::optional<nlohmann::json> ask(const std::string& name, const nlohmann::json& question) {
  auto answer = ask_pager(name, question, kAnswerMs);
  if (!answer) {
    print_error("hecaton pool: the pager of VM '{0}' does not answer; if it is gone: hecaton resume-pager {0}\n", name);
  }
  return answer;
}

int list(const PoolOptions& options) {
  const auto stats = ask(options.name, {{"ask", "stats"}});
  if (!stats) return 1;
  const auto nodes = stats->value("nodes", nlohmann::json::array());
  const std::string protection = stats->value("protection", "none");
  if (options.json) {
    print_output("{}\n", nlohmann::json{{"protection", protection}, {"nodes", nodes}}.dump(2));
    return 0;
  }
  for (const auto& node : nodes) {
    print_output("{}: {}, holds up to {}\n", node.value("url", ""), node.value("state", ""),
                 format_size(node.value("bytes", uint64_t{0})));
  }
  const uint64_t exposed = stats->value("exposed_bytes", uint64_t{0});
  print_output("protection: {}{}\n", protection,
               exposed == 0 ? "" : fmt::format("; NOT for {}, which are at one place only", format_size(exposed)));
  return 0;
}

int change(const PoolOptions& options) {
  if (Result<NodeUrl> url = parse_node_url(options.url); !url.ok()) {
    print_error("hecaton pool: that is no donor's URL: {}; for example 192.0.2.7:9999\n", url.error().context);
    return kExitUsage;
  }
  const auto answer =
      ask(options.name, {{"ask", "pool"}, {"change", options.change}, {"url", options.url}, {"force", options.force}});
  if (!answer) return 1;
  if (answer->value("event", "") == "pool") return 0;
  print_error("hecaton pool: {}\n", answer->value("error", "the pager knows no such request"));
  return 1;
}

}  // namespace

int pool(const std::vector<std::string>& arguments) {
  PoolOptions options;
  CLI::App app;
  describe(app, options);
  if (auto status = parse_verb(app, arguments)) return *status;
  if (!is_vm_name(options.name) || !RuntimeFolder(options.name).taken()) {
    print_error("hecaton pool: no VM '{}' is running here for this user; hecaton status lists those that are\n",
                harmless(options.name));
    return kExitUsage;
  }
  return options.change == "list" ? list(options) : change(options);
}

}  // namespace hecaton::cli
