// What `hecaton run` was asked for, checked.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "transport/tls_context.h"
#include "wire/node_url.h"

namespace hecaton::cli {

struct RunOptions {
  uint64_t memory_bytes = 0;  // 0: not said
  uint64_t local_bytes = 0;
  std::vector<NodeUrl> nodes;  // empty: an embedded donor
  std::string nodes_source;    // where they were named, for messages
  std::string name;
  std::string mode = "auto";
  std::string accel = "auto";
  uint64_t prefetch_pages = 256;
  bool prefetch_adaptive = true;
  unsigned shards = 1;   // 1 to 16
  std::string compress;  // auto, on or off
  bool seal = false;
  std::string protect = "auto";  // mirror, spill, none
  std::string spill_directory;   // empty: the usual one
  std::string on_loss = "stop";  // poison
  uint64_t repair_bytes_per_second = 256 << 20;
  std::string qemu = "qemu-system-x86_64";
  std::string giantvm_qemu;
  std::string report_file;
  unsigned most_pager_deaths = 5;  // within a minute
  bool insecure = false;
  std::string token;              // for donors whose URL has none; empty: none
  CertificateFiles certificates;  // paths; read by the pager
  bool has_secrets() const;       // a token, somewhere
  bool live = false;
  bool quiet = false;
  std::vector<std::string> qemu_arguments;
};

// It names a folder, too.
bool is_vm_name(const std::string& name);

// Parses and checks. Nothing: `exit_status` says how to end (0 after --help), and everything was printed.
std::optional<RunOptions> parse_run_options(const std::vector<std::string>& arguments, int* exit_status);

}  // namespace hecaton::cli
