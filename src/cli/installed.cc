#include "cli/installed.h"

#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <vector>

namespace hecaton::cli {
namespace {

std::string own_directory() {
  char path[4096];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) return ".";
  std::string text(path, static_cast<size_t>(length));
  return text.substr(0, text.rfind('/'));
}

std::optional<std::string> first_readable(const std::vector<std::string>& candidates, int mode) {
  for (const std::string& path : candidates) {
    if (access(path.c_str(), mode) == 0) return path;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return access(name.c_str(), X_OK) == 0 ? std::optional(name) : std::nullopt;
  const char* path = getenv("PATH");
  std::stringstream directories(path ? path : "/usr/bin:/bin");
  std::string directory;
  while (std::getline(directories, directory, ':')) {
    std::string candidate = (directory.empty() ? "." : directory) + "/" + name;
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return std::nullopt;
}

std::optional<std::string> find_hecatond() {
  if (auto beside = first_readable({own_directory() + "/hecatond"}, X_OK)) return beside;
  return find_program("hecatond");
}

std::optional<std::string> find_preload_library() {
  const std::string own = own_directory();
  return first_readable({own + "/../lib/libhecaton-qemu.so", own + "/../lib/hecaton/libhecaton-qemu.so",
                         own + "/../lib/x86_64-linux-gnu/hecaton/libhecaton-qemu.so"},
                        R_OK);
}

}  // namespace hecaton::cli
