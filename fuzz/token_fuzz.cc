// parse_token takes one word that a URL can carry, or nothing; without_tokens leaves nothing that stands before an '@'.
#include <algorithm>

#include "fuzz.h"
#include "wire/node_url.h"
#include "wire/token.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = fuzz::text_of(data, size);
  if (auto token = parse_token(text); token.ok()) {
    HEC_CHECK(token->size() >= kMinTokenChars && token->size() <= kMaxTokenChars);
    HEC_CHECK(text.find(*token) != std::string_view::npos);
    auto again = parse_token(*token);
    HEC_CHECK(again.ok() && *again == *token);
    auto url = parse_node_url("hecaton://" + *token + "@host");
    HEC_CHECK(url.ok() && url->token == *token && parse_node_url(url->with_token()).value() == *url);
  }
  if (auto url = parse_node_url(text); url.ok() && !url->token.empty()) {
    HEC_CHECK(parse_node_url(url->with_token()).value() == *url);
    if (url->token.size() > 3) HEC_CHECK(without_tokens(text).find(url->token + "@") == std::string::npos);
  }
  const std::string shown = without_tokens(text);
  HEC_CHECK(std::count(shown.begin(), shown.end(), '\n') == std::count(text.begin(), text.end(), '\n'));
  return 0;
}
