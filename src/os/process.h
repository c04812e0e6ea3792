// Starting and ending child processes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "os/owned_fd.h"

namespace hecaton {

struct ProcessSpec {
  std::vector<std::string> arguments;                            // argv; [0] is found on PATH
  std::vector<std::pair<std::string, std::string>> environment;  // added to, or replacing, ours
  std::vector<std::pair<int, int>> descriptors;                  // {ours, number there}; inherited over exec
  bool ignore_terminal_signals = false;  // Ctrl-C, Ctrl-Z, hang-up: a process group of its own; the parent decides
  bool survives = false;                 // it goes on if we are killed
  uint64_t open_files = 0;               // its soft limit of open files; 0: as ours
};

// A child, that the kernel kills when the thread that started it dies unless it `survives`; or another's child,
// adopted. Killed and reaped at the end of this object's life.
class ChildProcess {
 public:
  ChildProcess() = default;
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();

  // Call from a process without other threads, or with arguments prepared before: only async-signal-safe work is done
  // between fork and exec. A failed exec is an error here, not an exit status.
  static Result<ChildProcess> start(const ProcessSpec& spec);
  // A process whose parent is dead. wait() learns its status from Linux 6.15 on; before, it is 0.
  static Result<ChildProcess> adopt(pid_t pid);

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // readable once it has ended
  bool running() const { return pid_ > 0; }
  void signal(int number) const;
  // Waits for its end; the status as waitpid gives it.
  Result<int> wait();
  // Whether it ends within that time; it is still to be waited for.
  bool ends_by(Deadline by) const;
  // It is left to itself.
  void release();

 private:
  void destroy();
  int adopted_status() const;
  bool adopted_ = false;
  pid_t pid_ = -1;
  OwnedFd pidfd_;
};

// A copy of another process's descriptor. Needs the right to debug it.
Result<OwnedFd> take_descriptor(int pidfd, int number);

// What a program writes to its standard output, at most 64 KiB; its standard error is dropped. Killed at the deadline:
// then, and if it does not start, an error.
Result<std::string> output_of(const std::vector<std::string>& arguments, Deadline by);

}  // namespace hecaton
