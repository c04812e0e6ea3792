// What CLI11 found wrong with a command line, in words for the user: what, and which option. Never a token.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "wire/token.h"

namespace hecaton::cli {

inline std::string explain(const CLI::ParseError& error) {
  const std::string text = without_tokens(error.what());
  const size_t colon = text.find(": ");
  if (colon == std::string::npos) return text;
  const std::string option = text.substr(0, colon);
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error)) {
    if (text.find("At Most") != std::string::npos) return option + " is given more than once";
    if (text.ends_with(" missing")) return option + " wants a value after it";
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&error)) return "not understood: " + text.substr(colon + 2);
  return text;
}

}  // namespace hecaton::cli
