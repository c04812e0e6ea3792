#include "cli/ask_pager.h"

#include "cli/control.h"
#include "cli/runtime_folder.h"

namespace hecaton::cli {

std::optional<nlohmann::json> ask_pager(const std::string& vm_name, const nlohmann::json& question, int timeout_ms) {
  Result<OwnedFd> connection = RuntimeFolder(vm_name).connect();
  if (!connection.ok()) return std::nullopt;
  ControlLine line(std::move(connection).value());
  if (!line.send(question).ok()) return std::nullopt;
  return line.wait(timeout_ms);
}

}  // namespace hecaton::cli
