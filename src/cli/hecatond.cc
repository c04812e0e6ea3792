// hecatond: lends this machine's memory to virtual machines on other hosts. Options in, signals in, one DonorServer.
//
// Exit status: 0 after SIGTERM or SIGINT, or the end of --parent-fd; 2 usage; 3 this machine cannot do it.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "base/log.h"
#include "base/units.h"
#include "base/version.h"
#include "cli/command_line.h"
#include "cli/donor_trust.h"
#include "donor/server.h"
#include "os/memory.h"
#include "os/open_files.h"

namespace hecaton {
namespace {

constexpr int kUsage = 2;
constexpr int kMachineCannot = 3;
constexpr unsigned kMostThreads = 256;
constexpr unsigned kMostGraceSeconds = 7 * 24 * 3600;

struct Options {
  std::string size;
  std::string listen = "127.0.0.1:9999";
  std::string rdma = "auto";
  std::string backing;
  unsigned grace_seconds = 30;
  unsigned threads = 0;
  TrustOptions trust;
  int parent_fd = -1;
};

template <typename... Args>
int fail(int status, fmt::format_string<Args...> text, Args&&... args) {
  std::string message = fmt::format(text, std::forward<Args>(args)...);
  fmt::print(stderr, "hecatond: {}\n", message);
  return status;
}

void describe(CLI::App& app, Options& options) {
  app.name("hecatond");
  app.description("hecatond lends this machine's memory to virtual machines on other hosts.");
  app.add_option("--size", options.size, "memory to lend: bytes, or a number with K, M, G or T (binary)")
      ->required()
      ->type_name("SIZE");
  app.add_option("--listen", options.listen, "where to serve; port 0 takes any that is free")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  app.add_option("--threads", options.threads,
                 "threads that serve connections (default: one per processor, at most 16)")
      ->check(CLI::Range(1u, kMostThreads))
      ->type_name("N");
  app.add_option("--rdma", options.rdma,
                 "serve rdma:// too, on the same port: auto (where the address is one of an RDMA device), on, off")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  app.add_option("--token-file", options.trust.token_file,
                 "serve only hosts that know the token in it, over TLS; made, with a new token, if it is not there")
      ->type_name("FILE");
  app.add_option("--tls-cert", options.trust.certificates.certificate,
                 "instead of a token: this donor's certificate, PEM; with --tls-key and --tls-ca")
      ->type_name("FILE");
  app.add_option("--tls-key", options.trust.certificates.key, "its private key, PEM")->type_name("FILE");
  app.add_option("--tls-ca", options.trust.certificates.authority,
                 "serve only hosts with a certificate that one of these signed, PEM")
      ->type_name("FILE");
  app.add_option("--backing", options.backing,
                 "lend space on a disk instead of memory: pages lie in nameless files in this directory, and are gone\n"
                 "with this process, however it ends. They are plain text on the disk unless the host runs with --seal")
      ->type_name("DIR");
  app.add_option("--grace", options.grace_seconds,
                 "how long the memory of a VM is kept after its last connection broke: a VM that is stopped as it\n"
                 "should be gives it back at once. 0: not at all")
      ->check(CLI::Range(0u, kMostGraceSeconds))
      ->type_name("SECONDS")
      ->capture_default_str();
  app.add_flag("--insecure", options.trust.insecure,
               "allow --listen beyond this machine without any of these: nothing is encrypted, and anyone on that\n"
               "network could read and change the memory of guests");
  app.add_option("--parent-fd", options.parent_fd, "")
      ->group("");  // hidden: end when that descriptor's other end closes
  app.set_version_flag("--version", fmt::format("hecatond {}", kVersion));
  app.footer(
      "Examples:\n"
      "  hecatond --size 16G                                    lend 16 GiB to this machine itself, on port 9999\n"
      "  hecatond --size 64G --listen 10.0.0.7:9999 --token-file /etc/hecaton/token\n"
      "                                                         lend 64 GiB to hosts that know the token\n"
      "  hecatond --size 500G --backing /var/lib/hecatond       lend space on a disk of this machine\n"
      "With --token-file it prints 'pair with  hecaton://TOKEN@10.0.0.7:9999': put that URL, a secret, into the nodes "
      "file of the\n"
      "host, and run there: hecaton run --nodes FILE ...\n"
      "HECATON_LOG=info logs the regions that come and go. SIGTERM ends it; VMs that still use it lose that memory.");
}

// The bytes to lend and where, or the exit status after a message.
struct Checked {
  DonorConfig config;
  std::string token;
  int status = 0;
};

Checked check(const Options& options) {
  Checked checked;
  Result<uint64_t> size = parse_size(options.size);
  if (!size.ok()) {
    checked.status = fail(kUsage, "--size '{}': {}; for example --size 16G", options.size, size.error().context);
    return checked;
  }
  if (*size < kPageBytes) {
    checked.status =
        fail(kUsage, "--size '{}' is less than one page of {} bytes; for example --size 16G", options.size, kPageBytes);
    return checked;
  }
  Result<NodeUrl> listen = parse_listen_address(options.listen);
  if (!listen.ok()) {
    checked.status =
        fail(kUsage, "--listen '{}': {}; for example --listen 127.0.0.1:9999", options.listen, listen.error().context);
    return checked;
  }
  TrustOptions trust_options = options.trust;
  trust_options.rdma_wanted = options.rdma == "on";
  std::string problem;
  std::optional<Trust> trust = load_trust(trust_options, *listen, &problem);
  if (!trust) {
    checked.status = fail(kUsage, "{}", problem);
    return checked;
  }
  checked.token = trust->token;
  checked.config.tls = trust->tls;
  checked.config.lends_bytes = *size;
  checked.config.listen = *listen;
  checked.config.threads = options.threads;
  checked.config.backing = options.backing;
  checked.config.grace_ms = int64_t{options.grace_seconds} * 1000;
  checked.config.rdma = options.rdma == "on"                           ? RdmaUse::kRequired
                        : options.rdma == "off" || options.trust.any() ? RdmaUse::kOff  // it is not encrypted
                                                                       : RdmaUse::kIfThere;
  if (!options.backing.empty() && options.rdma == "on") {
    checked.status =
        fail(kUsage, "--rdma on: with --backing there is no RDMA, which reads memory; leave one of them out");
  }
  return checked;
}

// Guest memory and tokens reach no core dump and no debugger of the same user; connections may be many.
void prepare_process() {
  prctl(PR_SET_DUMPABLE, 0);
  rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // a file that may grow no more is an answer
}

void warn_if_short_of_memory(uint64_t lends_bytes) {
  uint64_t available = available_memory();
  if (available == 0 || lends_bytes <= available) return;
  event_log().warn(
      "--size {} is more than the {} this machine has available now: when guests fill it, the machine swaps or its "
      "kernel "
      "kills this process, and their memory is lost; choose a smaller --size",
      format_size(lends_bytes), format_size(available));
}

void warn_if_short_of_disk(uint64_t lends_bytes, const DonorServer& server) {
  const uint64_t free_bytes = server.backing_free_bytes();
  if (lends_bytes <= free_bytes) return;
  event_log().warn(
      "--size {} is more than the {} that the disk under --backing has free: when it is full, what guests evict is "
      "refused; choose a smaller --size",
      format_size(lends_bytes), format_size(free_bytes));
}

int explain_no_rdma(const Error& error, const NodeUrl& listen) {
  std::optional<RdmaProblem> problem = rdma_problem();
  return fail(kMachineCannot, "--rdma on: can't serve RDMA on {}: {}; {}, or leave --rdma out", listen.printable(),
              error.context,
              problem ? problem->remedy : "choose the address of an RDMA device with --listen HOST:PORT");
}

int explain_start_failure(const Error& error, const NodeUrl& listen) {
  if (error.code == ErrorCode::kNotFound) return explain_no_rdma(error, listen);
  switch (error.os_error) {
    case EADDRINUSE:
      return fail(
          kMachineCannot,
          "{} is taken: another program, maybe another hecatond, listens there. Stop that one, or choose another "
          "port with --listen HOST:PORT",
          listen.printable());
    case EADDRNOTAVAIL:
      return fail(kMachineCannot,
                  "{} is no address of this machine; 'ip address' lists those it has, choose one with "
                  "--listen HOST:PORT",
                  listen.printable());
    case EACCES:
      return fail(kMachineCannot,
                  "no permission to listen on {}: ports below 1024 are root's; choose another with "
                  "--listen HOST:PORT",
                  listen.printable());
    default:
      return fail(kMachineCannot, "can't serve on {}: {}", listen.printable(), error.describe());
  }
}

// Returns when SIGTERM or SIGINT comes, or the other end of parent_fd (if any) is closed.
void wait_for_the_end(int signals, int parent_fd) {
  pollfd waiting[2] = {{signals, POLLIN, 0}, {parent_fd, POLLIN, 0}};  // poll ignores a descriptor of -1
  for (;;) {
    if (poll(waiting, 2, -1) < 0) continue;
    if (waiting[0].revents != 0) return;
    char ignored[64];
    if (waiting[1].revents != 0 && read(parent_fd, ignored, sizeof ignored) <= 0 && errno != EINTR) return;
  }
}

void print_ready(const DonorServer& server, const Checked& checked) {
  const NodeUrl& address = server.address();
  fmt::print("hecatond: lending {} on {}\n", format_size(checked.config.lends_bytes), address.printable());
  if (!checked.token.empty()) {
    NodeUrl pair = address_for_others(address);
    pair.token = checked.token;
    fmt::print("hecatond: pair with  {}\n", pair.with_token());
  }
  if (server.serves_rdma()) fmt::print("hecatond: also over RDMA, as rdma://{}\n", address.printable());
}

int run(const Options& options) {
  prepare_process();  // before there is a token in it
  Checked checked = check(options);
  if (checked.status != 0) return checked.status;
  if (options.parent_fd >= 0 && fcntl(options.parent_fd, F_SETFD, FD_CLOEXEC) != 0) {
    return fail(kUsage, "--parent-fd {}: that descriptor is not open", options.parent_fd);
  }
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  sigprocmask(SIG_BLOCK, &ending, nullptr);
  OwnedFd signals(signalfd(-1, &ending, SFD_CLOEXEC));
  if (!signals.valid()) return fail(kMachineCannot, "{}", system_error("signalfd").describe());

  if (options.backing.empty()) warn_if_short_of_memory(checked.config.lends_bytes);
  std::string problem;
  Result<std::unique_ptr<DonorServer>> server = DonorServer::start(checked.config, &problem);
  if (!server.ok() && !problem.empty()) return fail(kUsage, "--backing: {}", problem);
  if (!server.ok()) return explain_start_failure(server.error(), checked.config.listen);
  if (!options.backing.empty()) warn_if_short_of_disk(checked.config.lends_bytes, *server.value());
  print_ready(*server.value(), checked);
  fflush(stdout);
  wait_for_the_end(signals.get(), options.parent_fd);
  server.value()->stop();
  return 0;
}

}  // namespace
}  // namespace hecaton

int main(int argc, char** argv) {
  hecaton::have_standard_descriptors();
  hecaton::start_log("hecatond");
  CLI::App app;
  hecaton::Options options;
  hecaton::describe(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {
    return app.exit(asked);  // --help, --version
  } catch (const CLI::ParseError& error) {
    return hecaton::fail(hecaton::kUsage, "{}; 'hecatond --help' shows the options", hecaton::cli::explain(error));
  }
  return hecaton::run(options);
}
