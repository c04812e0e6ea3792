#include "cli/installed.h"

#include <sys/stat.h>
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

std::optional<std::string> find_program(const std::string& name, std::string* problem) {
  std::string ignored;
  if (!problem) problem = &ignored;
  std::vector<std::string> candidates{name};
  if (name.find('/') == std::string::npos) {
    candidates.clear();
    const char* path = getenv("PATH");
    std::stringstream directories(path ? path : "/usr/bin:/bin");
    for (std::string directory; std::getline(directories, directory, ':');) {
      candidates.push_back((directory.empty() ? "." : directory) + "/" + name);
    }
  }
  *problem = name + " is not found";
  for (const std::string& candidate : candidates) {
    struct stat info;
    if (stat(candidate.c_str(), &info) != 0) continue;
    if (S_ISREG(info.st_mode) && access(candidate.c_str(), X_OK) == 0) return candidate;
    *problem = candidate + (S_ISDIR(info.st_mode) ? " is a directory" : " is not executable");
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
