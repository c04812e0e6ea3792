// Where the other parts of Hecaton are: beside this program, as built or as installed.
#pragma once

#include <optional>
#include <string>

namespace hecaton::cli {

std::optional<std::string> find_hecatond();
std::optional<std::string> find_preload_library();
// On PATH, or itself if it has a '/'. Else `problem` says why not: not there, a directory, not executable.
std::optional<std::string> find_program(const std::string& name, std::string* problem = nullptr);

}  // namespace hecaton::cli
