#include "wire/token.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/random.h"

namespace hecaton {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr size_t kTokenBytes = 24;

bool good_in_token(char c) {
  return kLetters.find(c) != std::string_view::npos || c == '.' || c == '~';
}

// What is that long and no word of a language or option may be a token whose '@' was forgotten.
bool looks_like_token(std::string_view run) {
  auto is_odd = [](unsigned char c) { return isdigit(c) || isupper(c); };
  return run.size() >= kMinTokenChars && run.front() != '-' && std::any_of(run.begin(), run.end(), is_odd);
}

std::string without_long_runs(std::string_view word) {
  std::string out;
  while (!word.empty()) {
    auto end = std::find_if_not(word.begin(), word.end(), [](char c) { return good_in_token(c) && c != '.'; });
    if (end == word.begin()) ++end;
    const std::string_view run = word.substr(0, static_cast<size_t>(end - word.begin()));
    out += looks_like_token(run) ? "***" : run;
    word.remove_prefix(run.size());
  }
  return out;
}

}  // namespace

bool has_token_characters(std::string_view text) {
  return std::all_of(text.begin(), text.end(), good_in_token);
}

Result<std::string> parse_token(std::string_view text) {
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return Error{ErrorCode::kInvalidArgument, 0, "there is no token"};
  text = text.substr(first, text.find_last_not_of(kSpace) - first + 1);
  if (!has_token_characters(text)) {
    return Error{ErrorCode::kInvalidArgument, 0, "a token is one word of letters, digits and -._~"};
  }
  if (text.size() < kMinTokenChars) {
    return Error{ErrorCode::kInvalidArgument, 0, "the token has fewer than 20 characters, and could be guessed"};
  }
  if (text.size() > kMaxTokenChars) {
    return Error{ErrorCode::kInvalidArgument, 0, "the token has more than 256 characters"};
  }
  return std::string(text);
}

std::string make_token() {
  std::array<std::byte, kTokenBytes> bytes;
  fill_random(bytes);
  std::string token;
  for (size_t at = 0; at < bytes.size(); at += 3) {  // three bytes are four characters
    const unsigned bits = std::to_integer<unsigned>(bytes[at]) << 16 | std::to_integer<unsigned>(bytes[at + 1]) << 8 |
                          std::to_integer<unsigned>(bytes[at + 2]);
    for (int shift = 18; shift >= 0; shift -= 6) token += kLetters[bits >> shift & 63];
  }
  return token;
}

std::string without_tokens(std::string_view text) {
  constexpr std::string_view kEnds = " \t\r\n";
  std::string out;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of(kEnds), text.size());
    std::string_view word = text.substr(0, end);
    if (const size_t at = word.rfind('@'); at != std::string_view::npos) {
      const size_t scheme = word.substr(0, at).find("://");
      out += scheme == std::string_view::npos ? "" : word.substr(0, scheme + 3);
      out += "***";
      word.remove_prefix(at);
    }
    out += without_long_runs(word);
    if (end < text.size()) out += text[end];
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

}  // namespace hecaton
