// Messages to the user. A message that cannot be delivered (a closed terminal, a full disk behind stderr) is dropped:
// it must not end a running VM.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

namespace hecaton::cli {

inline void write_text(FILE* stream, const std::string& text) {
  fwrite(text.data(), 1, text.size(), stream);
  fflush(stream);
}

template <typename... Args>
void print_error(fmt::format_string<Args...> text, Args&&... args) {
  write_text(stderr, fmt::format(text, std::forward<Args>(args)...));
}

// Text from elsewhere (a file, a peer) for a message: short, and without what would move a terminal's cursor.
inline std::string harmless(const std::string& text) {
  constexpr size_t kMost = 60;
  std::string clean = text.substr(0, kMost);
  std::replace_if(
      clean.begin(), clean.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text.size() > kMost ? clean + "..." : clean;
}

// For what the user asked to see; main() turns a failed delivery into a failed exit status.
template <typename... Args>
void print_output(fmt::format_string<Args...> text, Args&&... args) {
  const std::string whole = fmt::format(text, std::forward<Args>(args)...);
  fwrite(whole.data(), 1, whole.size(), stdout);
}

}  // namespace hecaton::cli
