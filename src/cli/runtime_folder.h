// The folder of a running VM: $XDG_RUNTIME_DIR/hecaton/NAME, or /tmp/hecaton-UID/NAME; only its user may look in.
//
//   lock      locked (flock) by the VM's QEMU and its supervisor through one open file: the name is taken while either
//             lives. Holds QEMU's process id
//   watcher   locked by the supervisor alone: whether there is one
//   pager     the socket that the pager listens at
//
// What a VM leaves behind that was killed, all of it at once, is noticed by the lock that nobody holds, and removed.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/owned_fd.h"

namespace hecaton::cli {

class RuntimeFolder {
 public:
  explicit RuntimeFolder(const std::string& vm_name);

  // Takes the name for a new VM, and removes what an earlier one has left. kBusy: a VM of this name lives.
  // The descriptor is the lock; the name is free when its last copy is closed.
  Result<OwnedFd> claim();
  // Makes this process the VM's supervisor. kBusy: it has one.
  Result<OwnedFd> begin_watching();
  // The socket anew; a pager serves whoever connects.
  Result<OwnedFd> listen();
  Result<OwnedFd> connect() const;

  Result<void> write_qemu(pid_t pid, int lock) const;
  std::optional<pid_t> qemu() const;
  // Whether a VM of this name lives.
  bool taken() const;
  // Removes the folder, if no VM lives in it (any more).
  void remove_if_free();

  const std::string& path() const { return path_; }
  static std::vector<std::string> names();

 private:
  std::string file(const char* name) const { return path_ + "/" + name; }
  void remove_files() const;
  std::string path_;
};

}  // namespace hecaton::cli
