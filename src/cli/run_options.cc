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
#include <thread>

#include "base/stripes.h"
#include "base/units.h"
#include "cli/command_line.h"
#include "cli/nodes_file.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "pager/pager.h"
#include "transport/credentials.h"
#include "wire/token.h"

namespace hecaton::cli {
namespace {

// As typed, before anything is checked.
struct RawOptions {
  std::string memory, local, nodes_file, token_file, prefetch = "auto", shards = "auto", repair_rate;
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
      "  hecaton run -m 8G --local 25% --nodes donors.conf -- -nographic -kernel vmlinuz -append console=ttyS0\n"
      "  (donors.conf: the URLs that hecatond prints as 'pair with', one a line; chmod 600 donors.conf)");
  app.add_option("-m,--memory", raw.memory, "RAM of the VM; whole MiB (not for mode kernel)")->type_name("SIZE");
  app.add_option("--local", raw.local, "how much of it may be in this machine's RAM (default: half)")
      ->type_name("SIZE|N%");
  app.add_option("--node", raw.nodes, "a donor: [hecaton://|rdma://][TOKEN@]HOST[:PORT]; repeat for more")
      ->type_name("URL");
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
  app.add_option(
         "--compress", options.compress,
         "auto: pages travel compressed where measurements say that it pays; on: where they shrink; off: never\n"
         "(default: auto; with --seal off, because the length of a compressed page tells about its content)")
      ->check(CLI::IsMember({"auto", "on", "off"}));
  app.add_flag("--seal", options.seal,
               "encrypt and authenticate every page before it leaves (AES-256-GCM): donors can neither read, change\n"
               "nor replay one");
  app.add_option("--protect", options.protect,
                 "where else each page is kept before it leaves: mirror (at a second donor), spill (on this machine's\n"
                 "disk), none; auto: mirror if two donors have room for it, else spill; none with the embedded donor")
      ->check(CLI::IsMember({"auto", "mirror", "spill", "none"}));
  app.add_option("--spill-dir", options.spill_directory,
                 "the directory for spilled pages, on a disk (default: /var/tmp); nothing stays there")
      ->type_name("DIR");
  app.add_option(
         "--on-loss", options.on_loss,
         "when memory is lost for good: stop the guest, or poison: it gets a memory error for those pages only\n"
         "(needs KVM and Linux 6.6)")
      ->check(CLI::IsMember({"stop", "poison"}));
  app.add_option("--repair-rate", raw.repair_rate,
                 "bytes a second that may be copied to bring protection back (default: 256M)")
      ->type_name("SIZE");
  app.add_option("--most-pager-deaths", options.most_pager_deaths, "")->group("");  // hidden: for tests that kill it
  app.add_option("--qemu", options.qemu, "the QEMU to start")->type_name("PATH");
  app.add_option("--giantvm-qemu", options.giantvm_qemu, "GiantVM's own QEMU, for mode kernel")->type_name("PATH");
  app.add_option("--report", options.report_file, "write the run's figures there, as JSON, at the end")
      ->type_name("FILE");
  app.add_option("--token-file", raw.token_file, "file with the token of donors whose URL has none")->type_name("FILE");
  app.add_option("--tls-cert", options.certificates.certificate,
                 "for donors with certificates: ours, PEM; with --tls-key and --tls-ca")
      ->type_name("FILE");
  app.add_option("--tls-key", options.certificates.key, "its private key, PEM")->type_name("FILE");
  app.add_option("--tls-ca", options.certificates.authority, "who signs the donors' certificates, PEM")
      ->type_name("FILE");
  app.add_flag("--insecure", options.insecure,
               "use donors on other machines without token or certificate: anyone on that network could read and\n"
               "change the VM's memory");
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

void take_nodes_file(const std::string& path, RunOptions& options, Problems& problems) {
  NodesFile file = read_nodes_file(path);
  for (const std::string& problem : file.problems) problems.add("{}", problem);
  options.nodes = std::move(file.nodes);
  options.nodes_source = path;
}

void check_nodes(const RawOptions& raw, RunOptions& options, Problems& problems) {
  if (!raw.nodes.empty() && !raw.nodes_file.empty()) problems.add("--node and --nodes: give one of them");
  for (const std::string& text : raw.nodes) {
    Result<NodeUrl> url = parse_node_url(text);
    if (!url.ok()) {
      problems.add("--node '{}': {}", without_tokens(text), url.error().context);
    } else if (std::find(options.nodes.begin(), options.nodes.end(), *url) != options.nodes.end()) {
      problems.add("--node '{}': this donor is named twice", url->printable());
    } else {
      options.nodes.push_back(std::move(*url));
    }
  }
  options.nodes_source = "--node";
  if (!raw.nodes.empty()) return;
  if (!raw.nodes_file.empty()) {
    take_nodes_file(raw.nodes_file, options, problems);
  } else if (struct stat info; lstat(kDefaultNodesFile, &info) == 0) {
    take_nodes_file(kDefaultNodesFile, options, problems);
  }
}

bool any_token_in(const std::vector<NodeUrl>& nodes) {
  return std::any_of(nodes.begin(), nodes.end(), [](const NodeUrl& node) { return !node.token.empty(); });
}

void check_trust(const RawOptions& raw, RunOptions& options, Problems& problems) {
  for (const NodeUrl& node : options.nodes) {
    if (node.token.empty()) continue;
    if (node.rdma) problems.add("donor {}: {}", node.printable(), kRdmaWithToken);
    if (auto token = parse_token(node.token); !token.ok()) {
      problems.add("donor {}: {}; hecatond prints the URL to use", node.printable(), token.error().context);
    }
  }
  const CertificateFiles& files = options.certificates;
  if (files.any() && !files.all()) problems.add("--tls-cert, --tls-key and --tls-ca belong together: give all three");
  if (files.any() && !raw.token_file.empty()) problems.add("--token-file and --tls-...: choose one of them");
  if ((files.any() || !raw.token_file.empty()) && options.nodes.empty()) {
    problems.add("{}: no donor is named; it is for donors on other machines, see --node and --nodes",
                 files.any() ? "--tls-cert" : "--token-file");
  }
  std::string problem;
  if (!raw.token_file.empty()) {
    Result<std::string> token = read_token_file(raw.token_file, &problem);
    if (token.ok()) options.token = *token;
  }
  if (problem.empty()) (void)Credentials::make(options.token, files.all() ? files : CertificateFiles(), &problem).ok();
  if (!problem.empty()) problems.add("{}{}", raw.token_file.empty() ? "" : "--token-file: ", problem);
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

void check_protection(const RawOptions& raw, RunOptions& options, Problems& problems) {
  if (options.nodes.empty() && (options.protect == "mirror" || options.protect == "spill")) {
    problems.add("--protect {}: no donor is named, all of the VM's memory is on this machine; name donors with --node",
                 options.protect);
  } else if (options.protect == "mirror" && options.nodes.size() < 2) {
    problems.add(
        "--protect mirror: a mirror needs two donors, and {} is the only one; name another with --node, or say "
        "--protect spill",
        options.nodes.front().printable());
  }
  struct stat info;
  if (!options.spill_directory.empty() &&
      (stat(options.spill_directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))) {
    problems.add("--spill-dir {}: {}", options.spill_directory, errno != 0 ? strerror(errno) : "not a directory");
  }
  if (raw.repair_rate.empty()) return;
  Result<uint64_t> rate = parse_size(raw.repair_rate);
  if (!rate.ok() || *rate < 1_MiB) {
    problems.add("--repair-rate '{}': {}; for example 256M", raw.repair_rate,
                 rate.ok() ? "at least 1M a second" : rate.error().context);
  } else {
    options.repair_bytes_per_second = *rate;
  }
}

void check_name(RunOptions& options, Problems& problems) {
  if (options.name.empty()) options.name = fmt::format("vm-{}", getpid());
  if (!is_vm_name(options.name)) {
    problems.add("--name '{}': letters, digits, '-', '_' and '.', at most 64 of them, and not '.' first", options.name);
  }
}

void check_report(const RunOptions& options, Problems& problems) {
  if (options.report_file.empty()) return;
  struct stat before;
  const bool is_new = lstat(options.report_file.c_str(), &before) != 0;
  std::ofstream file(options.report_file, std::ios::app);
  if (!file) return problems.add("--report {}: cannot be written: {}", options.report_file, strerror(errno));
  if (is_new) unlink(options.report_file.c_str());  // a run that does not start leaves no empty report
}

}  // namespace

bool RunOptions::has_secrets() const {
  return !token.empty() || any_token_in(nodes);
}

bool is_vm_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 && name[0] != '.' && std::all_of(name.begin(), name.end(), [](char c) {
    return isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  });
}

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
    print_error("hecaton run: '{}' is no option of ours; QEMU's own options come after --\n", without_tokens(word));
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
    const bool extra = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
    print_error("hecaton run: {}; {}hecaton run --help shows the options\n", explain(error),
                extra ? "QEMU's own options come after --, and " : "");
    *exit_status = kExitUsage;
    return std::nullopt;
  }
  Problems problems;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& value : option->results()) {
      if (value.empty()) problems.add("{} is empty", option->get_name());
    }
  }
  if (problems.any()) {  // one message for each is enough
    *exit_status = kExitUsage;
    return std::nullopt;
  }
  check_memory(raw, options, problems);
  if (!problems.any()) check_local(raw, options, problems);
  check_nodes(raw, options, problems);
  check_trust(raw, options, problems);
  check_prefetch(raw, options, problems);
  check_shards(raw, options, problems);
  check_protection(raw, options, problems);
  if (options.compress.empty()) options.compress = options.seal ? "off" : "auto";
  check_name(options, problems);
  check_report(options, problems);
  if (!problems.any()) return options;
  *exit_status = kExitUsage;
  return std::nullopt;
}

}  // namespace hecaton::cli
