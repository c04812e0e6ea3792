// The command lines of verbs, and what is wrong with them, in words for the user: what, and which option. Never a
// token.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/output.h"
#include "cli/verbs.h"
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

// Parses what stands after a verb. None: `app` has it all. Else the exit status, and all is said: the help that was
// asked for, or what is wrong.
inline std::optional<int> parse_verb(CLI::App& app, const std::vector<std::string>& arguments) {
  std::vector<std::string> words(arguments.rbegin(), arguments.rend());  // CLI11 takes them from the back
  try {
    app.parse(words);
  } catch (const CLI::CallForHelp&) {
    print_output("{}", app.help());
    return 0;
  } catch (const CLI::ParseError& error) {
    std::string name = app.get_name();
    for (const CLI::App* verb : app.get_subcommands()) name += " " + verb->get_name();
    print_error("{}: {}; {} --help shows the options\n", name, explain(error), name);
    return kExitUsage;
  }
  return std::nullopt;
}

}  // namespace hecaton::cli
