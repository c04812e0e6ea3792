#include "os/private_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "os/owned_fd.h"

namespace hecaton {
namespace {

constexpr size_t kMostBytes = 64 * 1024;

// In a form that a shell takes as one word.
std::string quoted(const std::string& path) {
  if (path.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+") ==
      std::string::npos) {
    return path;
  }
  std::string out = "'";
  for (char c : path) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

Error failed(const std::string& path, const char* doing, std::string* problem) {
  const Error error = system_error(doing, errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kSystem);
  *problem = fmt::format("{}: {}", path, strerror(error.os_error));
  return error;
}

}  // namespace

std::string why_not_private(int fd, const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) return fmt::format("{}: {}", path, strerror(errno));
  if (info.st_uid != 0 && info.st_uid != geteuid()) {
    return fmt::format("{} holds a secret and belongs to user {}, who can read and change it: run  chown {} {}", path,
                       info.st_uid, geteuid(), quoted(path));
  }
  if ((info.st_mode & 077) != 0) {
    return fmt::format("{} holds a secret, and other users can read or change it: run  chmod 600 {}", path,
                       quoted(path));
  }
  return {};
}

Result<std::string> read_private_file(const std::string& path, std::string* problem) {
  // Non-blocking: a fifo must not make the program wait for its writer.
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return failed(path, "opening a secret", problem);
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return failed(path, "looking at a secret", problem);
  if (!S_ISREG(info.st_mode)) {
    *problem = fmt::format("{} is not a regular file", path);
    return Error{ErrorCode::kInvalidArgument, 0, "a secret that is not in a regular file"};
  }
  if (*problem = why_not_private(fd.get(), path); !problem->empty()) {
    return Error{ErrorCode::kPermission, 0, "a secret that others can read"};
  }
  std::string content(kMostBytes + 1, '\0');
  size_t filled = 0;
  while (filled < content.size()) {
    const ssize_t got = read(fd.get(), content.data() + filled, content.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed(path, "reading a secret", problem);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  if (filled > kMostBytes) {
    *problem = fmt::format("{} is longer than 64 KiB", path);
    return Error{ErrorCode::kInvalidArgument, 0, "a secret that is too long"};
  }
  content.resize(filled);
  return content;
}

Result<void> create_private_file(const std::string& path, std::string_view content, std::string* problem) {
  OwnedFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) {
    const bool there = errno == EEXIST;
    const Error error = failed(path, "creating a secret", problem);
    return there ? Error{ErrorCode::kBusy, EEXIST, "creating a secret"} : error;
  }
  for (size_t done = 0; done < content.size();) {
    const ssize_t written = write(fd.get(), content.data() + done, content.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const Error error = failed(path, "writing a secret", problem);
      unlink(path.c_str());  // a part of a token is none
      return error;
    }
    done += static_cast<size_t>(written);
  }
  return {};
}

}  // namespace hecaton
