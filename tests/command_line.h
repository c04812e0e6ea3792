// The command lines of the tests' own programs, and how these end.
//
// Exit status 2: the command line is wrong. 1 if all went well, but what was found could not be written.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <string>

namespace hecaton::tests {

inline constexpr int kExitUsage = 2;

inline int refuse(const CLI::App& app, const std::string& what) {
  const char* name = app.get_name().c_str();
  std::fprintf(stderr, "%s: %s; %s --help shows the options\n", name, what.c_str(), name);
  return kExitUsage;
}

// None: `app` has it all. Else the exit status, and all is said: the help that was asked for, or what is wrong.
inline std::optional<int> parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return 0;
  } catch (const CLI::ParseError& error) {
    return refuse(app, error.what());
  }
  return std::nullopt;
}

// For main() to return, of program `name`.
inline int when_written(const char* name, int status) {
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return status;
  std::fprintf(stderr, "%s: what it found could not be written\n", name);
  return status == 0 ? 1 : status;
}

}  // namespace hecaton::tests
