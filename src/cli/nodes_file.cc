#include "cli/nodes_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/units.h"
#include "cli/output.h"
#include "os/owned_fd.h"
#include "os/private_file.h"

namespace hecaton::cli {
namespace {

// Ten thousand donors need a tenth of it: what is larger is something else, a disk image perhaps.
constexpr off_t kMostBytes = 8_MiB;
constexpr size_t kMostProblems = 10;

}  // namespace

NodesFile read_nodes_file(const std::string& path) {
  // Non-blocking: a fifo must not make us wait for its writer.
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat info;
  if (!fd.valid() || fstat(fd.get(), &info) != 0) {
    return {{}, {fmt::format("nodes file {}: {}", path, strerror(errno))}};
  }
  if (!S_ISREG(info.st_mode)) return {{}, {fmt::format("nodes file {} is not a regular file", path)}};
  if (info.st_size > kMostBytes) {
    return {{},
            {fmt::format("nodes file {} is {} large; is it a list of donors?", path,
                         format_size(static_cast<uint64_t>(info.st_size)))}};
  }
  // The very file that was looked at.
  std::ifstream file(fmt::format("/proc/self/fd/{}", fd.get()));
  std::stringstream content;
  content << file.rdbuf();
  // Of an empty file nothing is copied, and that is a failure of `content` only.
  if (!file) return {{}, {fmt::format("nodes file {}: cannot be read: {}", path, strerror(errno))}};
  std::vector<NodesFileProblem> bad_lines;
  NodesFile result{parse_nodes_file(content.str(), &bad_lines), {}};
  for (const NodesFileProblem& bad : bad_lines) {
    if (result.problems.size() == kMostProblems) {
      result.problems.push_back(
          fmt::format("{}: and {} more lines like these; is it a list of donors, HOST or HOST:PORT, one a line?", path,
                      bad_lines.size() - kMostProblems));
      break;
    }
    result.problems.push_back(fmt::format("{}:{}: '{}': {}", path, bad.line, harmless(bad.text), bad.what));
  }
  if (bad_lines.empty() && result.nodes.empty())
    result.problems.push_back(fmt::format("nodes file {} names no donor", path));
  const bool secret =
      std::any_of(result.nodes.begin(), result.nodes.end(), [](const auto& n) { return !n.token.empty(); });
  std::string why = secret ? why_not_private(fd.get(), path) : "";
  if (!why.empty()) result.problems.push_back("nodes file " + why);
  return result;
}

}  // namespace hecaton::cli
