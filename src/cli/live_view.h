// What a person sees of a running VM: one live line, and a table at the end. On stderr.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace hecaton::cli {

// On a terminal the line is redrawn in place; elsewhere each is a line of its own.
void print_live_line(const nlohmann::json& stats, const std::string& accel, double faults_per_second);
void print_summary(const nlohmann::json& stats, const std::string& accel, double seconds);

}  // namespace hecaton::cli
