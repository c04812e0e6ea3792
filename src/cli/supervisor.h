// Starts and watches the parts of a VM in memory mode: embedded donor, pager, QEMU.
//
// A pager that dies is replaced (PagerKeeper). If this process dies, the others go on: `hecaton resume-pager` makes
// another supervisor, which finds in the state memory and in the VM's folder what it needs. When QEMU ends, whoever is
// left ends: the pager watches its process, the embedded donor a pipe that QEMU holds. One thread.
//
// supervisor_start.cc starts the parts, supervisor_resume.cc takes another supervisor's over, supervisor.cc watches.
#pragma once

#include <termios.h>

#include <optional>
#include <string>
#include <vector>

#include "cli/local_donor.h"
#include "cli/pager_keeper.h"
#include "cli/run_options.h"
#include "cli/runtime_folder.h"
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
  // The same for a VM that has lost its supervisor. Of the options only the name counts, and what is said and written.
  int resume();

 private:
  bool prepare();
  bool wait_for(int fd, Deadline by);
  bool end_before_the_start();
  bool start_donor();
  Result<LocalDonor> start_own_donor(std::vector<std::string> options, std::string* problem);
  bool start_embedded_donor();
  bool start_spill();
  void warn_if_short_of_disk(const std::string& directory) const;
  std::string describe_protection(const std::string& protection) const;
  bool claim_name();
  bool start_pager();
  std::vector<std::string> nodes_with_tokens() const;
  bool start_qemu();
  bool find_orphan();
  bool take_from_pager(ControlLine line);
  bool take_from_qemu();
  bool read_kept_configuration();
  int watch();
  void on_handover();
  void on_donor_end();
  void on_signal();
  void check_unpaged();
  void check_patience();
  void stop_guest(int exit_status, const std::string& why);
  int finish(int wait_status);
  void show_live();
  void write_report();
  void show_summary() const;
  void say(const std::string& words) const;
  bool fail(int exit_status, const std::string& why);

  const RunOptions& options_;
  std::string accel_;
  const std::vector<std::string> qemu_command_;
  std::vector<std::string> nodes_;  // without tokens
  std::string report_file_;
  RuntimeFolder folder_;
  OwnedFd name_lock_, watcher_lock_;
  OwnedFd signals_;
  OwnedFd handover_, qemu_handover_;  // our end, and QEMU's
  ChildProcess donor_;
  LocalDonor spill_;  // keeps pages on this machine's disk; none: no address
  PagerKeeper pager_;
  ChildProcess qemu_;
  bool live_line_shown_ = false;
  int signals_seen_ = 0;
  int64_t end_by_ns_ = 0;  // 0: nobody asked for an end
  std::optional<int> forced_exit_;
  int64_t started_ns_ = 0, last_live_ns_ = 0;
  uint64_t last_faults_ = 0;
  std::optional<termios> terminal_;
};

}  // namespace hecaton::cli
