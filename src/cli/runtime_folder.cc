#include "cli/runtime_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace hecaton::cli {
namespace {

constexpr int kClaimTries = 100;

std::string base_path() {
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  if (runtime && runtime[0] == '/') return std::string(runtime) + "/hecaton";
  return fmt::format("/tmp/hecaton-{}", getuid());
}

// A folder of ours alone. In /tmp another user may have made it first.
Result<void> make_private(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return system_error("making the VM's folder");
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return system_error("looking at the VM's folder");
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return Error{ErrorCode::kPermission, 0, "the folder of running VMs is not this user's own and private"};
  }
  return {};
}

// kBusy: somebody else holds the lock.
Result<OwnedFd> lock_file(const std::string& path) {
  OwnedFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return system_error("the VM's lock file");
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno == EWOULDBLOCK) return Error{ErrorCode::kBusy, 0, "the VM is running, or has a supervisor"};
  return system_error("locking the VM's lock file");
}

// Whoever had the lock before may have removed the file under it.
bool still_there(int fd, const std::string& path) {
  struct stat ours {
  }, theirs{};
  return fstat(fd, &ours) == 0 && stat(path.c_str(), &theirs) == 0 && ours.st_ino == theirs.st_ino;
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "the path of the VM's socket is too long; set XDG_RUNTIME_DIR shorter"};
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

}  // namespace

RuntimeFolder::RuntimeFolder(const std::string& vm_name) : path_(base_path() + "/" + vm_name) {}

Result<OwnedFd> RuntimeFolder::claim() {
  if (const std::string parent = base_path().substr(0, base_path().rfind('/')); access(parent.c_str(), F_OK) != 0) {
    return system_error("XDG_RUNTIME_DIR names no directory");
  }
  auto prepare = [this]() -> Result<OwnedFd> {
    HEC_TRY(make_private(base_path()));
    HEC_TRY(make_private(path_));
    return lock_file(file("lock"));
  };
  for (int tries = 0; tries < kClaimTries; ++tries) {
    Result<OwnedFd> lock = prepare();
    if (!lock.ok() && lock.error().os_error == ENOENT) continue;  // removed just now
    if (!lock.ok()) return lock.error();
    if (!still_there(lock->get(), file("lock"))) continue;
    for (const char* left : {"pager", "watcher"}) unlink(file(left).c_str());
    [[maybe_unused]] int cleared = ftruncate(lock->get(), 0);
    return lock;
  }
  return Error{ErrorCode::kBusy, 0, "the VM's folder keeps being removed"};
}

Result<OwnedFd> RuntimeFolder::begin_watching() {
  return lock_file(file("watcher"));
}

Result<OwnedFd> RuntimeFolder::listen() {
  sockaddr_un address = HEC_TRY(address_of(file("pager")));
  unlink(address.sun_path);
  OwnedFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return system_error("the VM's socket");
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(fd.get(), 16) != 0) {
    return system_error("listening at the VM's socket");
  }
  return fd;
}

Result<OwnedFd> RuntimeFolder::connect() const {
  sockaddr_un address = HEC_TRY(address_of(file("pager")));
  OwnedFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return system_error("a socket");
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return system_error("reaching the VM's pager", ErrorCode::kUnavailable);
  }
  return fd;
}

Result<void> RuntimeFolder::write_qemu(pid_t pid, int lock) const {
  const std::string text = fmt::format("{}\n", pid);
  if (pwrite(lock, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return system_error("writing the VM's lock file");
  }
  return {};
}

std::optional<pid_t> RuntimeFolder::qemu() const {
  OwnedFd fd(open(file("lock").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  char text[32] = {};
  if (!fd.valid() || read(fd.get(), text, sizeof text - 1) <= 0) return std::nullopt;
  const long pid = strtol(text, nullptr, 10);
  return pid > 0 ? std::optional(static_cast<pid_t>(pid)) : std::nullopt;
}

bool RuntimeFolder::taken() const {
  OwnedFd fd(open(file("lock").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  return fd.valid() && flock(fd.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

void RuntimeFolder::remove_if_free() {
  Result<OwnedFd> lock = lock_file(file("lock"));
  if (lock.ok() && still_there(lock->get(), file("lock"))) remove_files();
}

void RuntimeFolder::remove_files() const {
  for (const char* name : {"pager", "watcher", "lock"}) unlink(file(name).c_str());
  rmdir(path_.c_str());
  rmdir(base_path().c_str());  // if it was the last
}

std::vector<std::string> RuntimeFolder::names() {
  std::vector<std::string> found;
  DIR* folder = opendir(base_path().c_str());
  if (!folder) return found;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] != '.') found.emplace_back(entry->d_name);
  }
  closedir(folder);
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace hecaton::cli
