// Tokens: what a donor and its hosts share to know each other. Text of URL-safe characters, at least 20 of them,
// because whoever records a handshake can try guesses at leisure.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace hecaton {

inline constexpr size_t kMinTokenChars = 20;
inline constexpr size_t kMaxTokenChars = 256;

// The token in the content of a token file, or in a URL; white space around it does not count.
Result<std::string> parse_token(std::string_view text);

// Whether all of it may stand in a token.
bool has_token_characters(std::string_view text);

// A new one, of 192 random bits.
std::string make_token();

// The text with *** for everything that may be a token in it: whatever stands before an '@', and
// what is as long as one. For messages.
std::string without_tokens(std::string_view text);

}  // namespace hecaton
