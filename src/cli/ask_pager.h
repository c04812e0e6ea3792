// A question to the pager of a VM that runs here, by whoever is not its supervisor.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace hecaton::cli {

// Its answer (control.h lists the questions). Nothing if it is gone or silent.
std::optional<nlohmann::json> ask_pager(const std::string& vm_name, const nlohmann::json& question, int timeout_ms);

}  // namespace hecaton::cli
