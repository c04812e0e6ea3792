#include "cli/run_options.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/stripes.h"
#include "base/units.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "pager/pager.h"

namespace hecaton::cli {
namespace {

constexpr const char* kDefaultNodesFile = "cluster_uffd.conf";

// As typed, before anything is checked.
struct RawOptions {
  std::string memory, local, nodes_file, prefetch = "auto", shards = "auto";
  std::vector<std::string> nodes;
};

class Problems {
 public:
  template <typename... Args>
  void add(fmt::format_string<Args...> text, Args&&... args) {
    print_error("hecaton run: {}\n", fmt::format(text, std::forward<Args>(args)...));
    any_ = true;
  }
  bool any() const { return any_; }

 private:
  bool any_ = false;
};

void describe(CLI::App& app, RawOptions& raw, RunOptions& options) {
  app.name("hecaton run");
  app.description("Runs a QEMU VM whose RAM is mostly at donors.");
  app.footer(
      "Everything after -- goes to QEMU as it is. The VM's memory, its backend and the accelerator are hecaton's.\n"
      "Donors: --node, else the nodes file, else an embedded donor on this machine.\n"
      "Exit status: QEMU's own; 2 usage; 3 this machine cannot do it; 4 guest stopped: memory lost.\n\n"
      "  hecaton run -m 4G --local 1G -- -hda disk.qcow2\n"
      "  hecaton run -m 8G --local 25% --node 127.0.0.1:9999 -- -nographic -kernel vmlinuz -append console=ttyS0");
  app.add_option("-m,--memory", raw.memory, "RAM of the VM; whole MiB (not for mode kernel)")->type_name("SIZE");
  app.add_option("--local", raw.local, "how much of it may be in this machine's RAM (default: half)")
      ->type_name("SIZE|N%");
  app.add_option("--node", raw.nodes, "a donor: [hecaton://|rdma://]HOST[:PORT]; repeat for more")->type_name("URL");
  app.add_option("--nodes", raw.nodes_file, "file with one donor a line (default: cluster_uffd.conf if it is there)")
      ->type_name("FILE");
  app.add_option("--name", options.name, "the VM's name at donors and in messages")->type_name("NAME");
  app.add_option("--mode", options.mode, "auto, memory or kernel (GiantVM); aggregate is not in this version")
      ->check(CLI::IsMember({"auto", "memory", "aggregate", "kernel"}));
  app.add_option("--accel", options.accel, "auto, kvm or tcg")->check(CLI::IsMember({"auto", "kvm", "tcg"}));
  app.add_option("--prefetch", raw.prefetch, "auto, off, or the pages of a window (1 to 256)")
      ->type_name("auto|off|PAGES");
  app.add_option("--shards", raw.shards,
                 "threads that serve page faults (1 to 16); auto: one for every four processors, at most 8")
      ->type_name("auto|N");
  app.add_option("--compress", options.compress,
                 "auto: pages travel compressed where measurements say that it pays; off: never")
      ->check(CLI::IsMember({"auto", "off"}));
  app.add_option("--qemu", options.qemu, "the QEMU to start")->type_name("PATH");
  app.add_option("--giantvm-qemu", options.giantvm_qemu, "GiantVM's own QEMU, for mode kernel")->type_name("PATH");
  app.add_option("--report", options.report_file, "write the run's figures there, as JSON, at the end")
      ->type_name("FILE");
  app.add_flag("--insecure", options.insecure,
               "use donors on other machines although page traffic is not encrypted yet");
  app.add_flag("--live", options.live, "show a line of live figures on stderr");
  app.add_flag("-q,--quiet", options.quiet, "say nothing but problems");
}

void check_memory(const RawOptions& raw, RunOptions& options, Problems& problems) {
  if (raw.memory.empty()) return;  // mode kernel needs none; memory mode says so when it is chosen
  Result<uint64_t> memory = parse_size(raw.memory);
  if (!memory.ok()) return problems.add("-m '{}': {}", raw.memory, memory.error().context);
  options.memory_bytes = *memory;
  if (options.memory_bytes % 1_MiB != 0) {
    problems.add("-m '{}': the VM's RAM must be a whole number of MiB; {}", raw.memory,
                 options.memory_bytes < 1_MiB ? fmt::format("did you mean {}M? A number alone is bytes", raw.memory)
                                              : fmt::format("for example {}M", options.memory_bytes / 1_MiB + 1));
  }
  if (options.memory_bytes > wire::kMaxRegionBytes) problems.add("-m '{}': at most 16T", raw.memory);
}

Result<uint64_t> parse_local(const std::string& text, uint64_t memory_bytes) {
  if (text.empty() || text.back() != '%') return parse_size(text);
  uint64_t percent = 0;
  auto [end, status] = std::from_chars(text.data(), text.data() + text.size() - 1, percent);
  if (status != std::errc() || end != text.data() + text.size() - 1 || percent < 1 || percent > 100) {
    return Error{ErrorCode::kInvalidArgument, 0, "a percentage is a whole number from 1 to 100"};
  }
  return memory_bytes / 100 * percent + memory_bytes % 100 * percent / 100;
}

void check_local(const RawOptions& raw, RunOptions& options, Problems& problems) {
  if (raw.memory.empty()) return;
  Result<uint64_t> local =
      raw.local.empty() ? Result<uint64_t>(options.memory_bytes / 2) : parse_local(raw.local, options.memory_bytes);
  if (!local.ok()) return problems.add("--local '{}': {}", raw.local, local.error().context);
  options.local_bytes = std::min(*local, options.memory_bytes);
  if (options.local_bytes < PagerConfig::kMinimumLocalBytes) {
    problems.add("{}: at least 1M must be local; a guest needs more to get anywhere, 64M is a sensible least",
                 raw.local.empty() ? "-m '" + raw.memory + "', half of it local" : "--local '" + raw.local + "'");
  }
}

void read_nodes_file(const std::string& path, RunOptions& options, Problems& problems) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return problems.add("nodes file {}: {}", path, strerror(errno));
  if (!S_ISREG(info.st_mode)) return problems.add("nodes file {} is not a regular file", path);
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  if (!file) return problems.add("nodes file {}: cannot be read: {}", path, strerror(errno));
  std::vector<NodesFileProblem> bad_lines;
  options.nodes = parse_nodes_file(content.str(), &bad_lines);
  for (const NodesFileProblem& bad : bad_lines) problems.add("{}:{}: '{}': {}", path, bad.line, bad.text, bad.what);
  if (bad_lines.empty() && options.nodes.empty()) problems.add("nodes file {} names no donor", path);
  options.nodes_source = path;
}

void check_nodes(const RawOptions& raw, RunOptions& options, Problems& problems) {
  if (!raw.nodes.empty() && !raw.nodes_file.empty()) problems.add("--node and --nodes: give one of them");
  for (const std::string& text : raw.nodes) {
    Result<NodeUrl> url = parse_node_url(text);
    if (!url.ok()) {
      problems.add("--node '{}': {}", text, url.error().context);
    } else if (std::find(options.nodes.begin(), options.nodes.end(), *url) != options.nodes.end()) {
      problems.add("--node '{}': this donor is named twice", text);
    } else {
      options.nodes.push_back(std::move(*url));
    }
  }
  options.nodes_source = "--node";
  if (!raw.nodes.empty()) return;
  if (!raw.nodes_file.empty()) {
    read_nodes_file(raw.nodes_file, options, problems);
  } else if (struct stat info; lstat(kDefaultNodesFile, &info) == 0) {
    read_nodes_file(kDefaultNodesFile, options, problems);
  }
}

void check_tokens(const RunOptions& options, Problems& problems) {
  for (const NodeUrl& node : options.nodes) {
    if (node.token.empty()) continue;
    problems.add("donor {}: this version has no tokens yet; leave TOKEN@ away", node.printable());
  }
}

void check_prefetch(const RawOptions& raw, RunOptions& options, Problems& problems) {
  if (raw.prefetch == "auto") return;
  options.prefetch_adaptive = false;
  if (raw.prefetch == "off") {
    options.prefetch_pages = 0;
    return;
  }
  auto [end, status] =
      std::from_chars(raw.prefetch.data(), raw.prefetch.data() + raw.prefetch.size(), options.prefetch_pages);
  if (status != std::errc() || *end != '\0' || options.prefetch_pages < 1 || options.prefetch_pages > 256) {
    problems.add("--prefetch '{}': auto, off, or a number of pages from 1 to 256", raw.prefetch);
  }
}

void check_shards(const RawOptions& raw, RunOptions& options, Problems& problems) {
  if (raw.shards == "auto") {
    options.shards = auto_shards(std::thread::hardware_concurrency());
    return;
  }
  auto [end, status] = std::from_chars(raw.shards.data(), raw.shards.data() + raw.shards.size(), options.shards);
  if (status != std::errc() || *end != '\0' || options.shards < 1 || options.shards > Stripes::kMostShards) {
    problems.add("--shards '{}': auto, or a number from 1 to {}", raw.shards, Stripes::kMostShards);
  }
}

void check_name(RunOptions& options, Problems& problems) {
  if (options.name.empty()) options.name = fmt::format("vm-{}", getpid());
  bool good = options.name.size() <= 64 && std::all_of(options.name.begin(), options.name.end(), [](char c) {
                return isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
              });
  if (!good) problems.add("--name '{}': letters, digits, '-', '_' and '.', at most 64 of them", options.name);
}

void check_report(const RunOptions& options, Problems& problems) {
  if (options.report_file.empty()) return;
  std::ofstream file(options.report_file, std::ios::app);
  if (!file) problems.add("--report {}: cannot be written: {}", options.report_file, strerror(errno));
}

}  // namespace

std::optional<RunOptions> parse_run_options(const std::vector<std::string>& arguments, int* exit_status) {
  auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  std::vector<std::string> own(arguments.begin(), dashes);
  RunOptions options;
  if (dashes != arguments.end()) options.qemu_arguments.assign(dashes + 1, arguments.end());
  RawOptions raw;
  // QEMU's options have one dash and a word, ours have one dash and a letter, or two dashes.
  for (const std::string& word : own) {
    if (word.size() < 3 || word[0] != '-' || !isalpha(static_cast<unsigned char>(word[1])) ||
        !isalpha(static_cast<unsigned char>(word[2]))) {
      continue;
    }
    print_error("hecaton run: '{}' is no option of ours; QEMU's own options come after --\n", word);
    *exit_status = kExitUsage;
    return std::nullopt;
  }
  CLI::App app;
  describe(app, raw, options);
  std::reverse(own.begin(), own.end());  // CLI11 takes them from the back
  try {
    app.parse(own);
  } catch (const CLI::CallForHelp&) {
    std::string help = app.help();
    constexpr std::string_view kUsage = "[OPTIONS]";
    if (size_t at = help.find(kUsage); at != std::string::npos) {
      help.replace(at, kUsage.size(), "-m SIZE [OPTIONS] -- QEMU ARGUMENTS");
    }
    print_output("{}", help);
    *exit_status = 0;
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    print_error("hecaton run: {}\n", error.what());
    print_error("hecaton run: QEMU's own options come after --; hecaton run --help tells ours\n");
    *exit_status = kExitUsage;
    return std::nullopt;
  }
  Problems problems;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& value : option->results()) {
      if (value.empty()) problems.add("{} is empty", option->get_name());
    }
  }
  check_memory(raw, options, problems);
  if (!problems.any()) check_local(raw, options, problems);
  check_nodes(raw, options, problems);
  check_tokens(options, problems);
  check_prefetch(raw, options, problems);
  check_shards(raw, options, problems);
  check_name(options, problems);
  check_report(options, problems);
  if (!problems.any()) return options;
  *exit_status = kExitUsage;
  return std::nullopt;
}

}  // namespace hecaton::cli
