// Starts and watches the parts of a VM in memory mode: embedded donor, pager, QEMU.
//
// Whatever way one of them ends, the others end too: the kernel kills children when the supervisor dies (parent-death
// signal), their sockets and memory have no names, and here every end is seen and acted on. One thread.
#pragma once

#include <termios.h>

#include <optional>
#include <string>
#include <vector>

#include "cli/control.h"
#include "cli/local_donor.h"
#include "cli/run_options.h"
#include "os/owned_fd.h"
#include "os/process.h"

namespace hecaton::cli {

class Supervisor {
 public:
  // `accel`: kvm or tcg, decided. `qemu_command`: the whole command line, for the RAM at kQemuMemoryFd.
  Supervisor(const RunOptions& options, std::string accel, std::vector<std::string> qemu_command);
  ~Supervisor();

  // Runs the VM to its end. The exit status for the shell.
  int run();

 private:
  bool prepare();
  bool wait_for(int fd, Deadline by);
  bool end_before_the_start();
  bool start_donor();
  bool start_spill();
  std::string describe_protection(const std::string& protection) const;
  bool start_pager();
  std::vector<std::string> nodes_with_tokens() const;
  bool start_qemu();
  int watch();
  void on_pager_messages();
  void on_pager_end();
  void on_donor_end();
  void on_signal();
  void check_unpaged();
  void check_patience();
  void stop_guest(int exit_status, const std::string& why);
  int finish(int wait_status);
  void ask_stats();
  void end_pager();
  void show_live();
  void write_report();
  void show_summary() const;
  template <typename... Args>
  void say(const char* text, Args&&... args) const;
  bool fail(int exit_status, const std::string& why);

  const RunOptions& options_;
  const std::string accel_;
  const std::vector<std::string> qemu_command_;
  std::vector<std::string> nodes_;  // without tokens
  OwnedFd memory_;
  OwnedFd signals_;
  OwnedFd donor_line_;
  LocalDonor spill_;  // keeps pages on this machine's disk; none: no address
  OwnedFd qemu_handover_;
  ControlLine control_;
  ChildProcess donor_, pager_, qemu_;
  nlohmann::json stats_;
  bool attached_ = false;
  bool live_line_shown_ = false;
  int signals_seen_ = 0;
  int64_t end_by_ns_ = 0;  // 0: nobody asked for an end
  std::optional<int> forced_exit_;
  int64_t started_ns_ = 0, last_live_ns_ = 0;
  uint64_t last_faults_ = 0;
  std::optional<termios> terminal_;
};

}  // namespace hecaton::cli
