// What a page of the memory check holds: bytes that compress badly, known from the seed, the page's number and its
// version alone, so that nothing needs to be remembered to verify them, and a wrong page can be told apart: zeros,
// an older version, another page's bytes, or noise.
#pragma once

#include <cstdint>
#include <string>

namespace guest {

inline constexpr size_t kPageBytes = 4096;
inline constexpr size_t kPageWords = kPageBytes / sizeof(uint64_t);

struct PageName {
  uint64_t seed;
  uint64_t page;
  uint8_t version;  // 0: discarded, all zeros; from 1 on, one more with each rewrite
};

// splitmix64's finisher.
inline uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// A linear congruential generator whose high bits are folded into the low ones: four operations a word, which is
// what makes hundreds of MiB bearable under TCG, and no compressor gains more than a few per cent on it.
class PageStream {
 public:
  explicit PageStream(PageName name) : state_(mix(name.seed + mix(name.page * 256 + name.version))) {}
  uint64_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return state_ ^ (state_ >> 29);
  }

 private:
  uint64_t state_;
};

inline void fill_page(uint64_t* words, PageName name) {
  PageStream stream(name);
  for (size_t i = 0; i < kPageWords; ++i) words[i] = stream.next();
}

// The index of the first wrong word, or kPageWords.
inline size_t first_wrong_word(const uint64_t* words, PageName name) {
  if (name.version == 0) {
    for (size_t i = 0; i < kPageWords; ++i) {
      if (words[i] != 0) return i;
    }
    return kPageWords;
  }
  PageStream stream(name);
  for (size_t i = 0; i < kPageWords; ++i) {
    if (words[i] != stream.next()) return i;
  }
  return kPageWords;
}

inline bool holds(const uint64_t* words, PageName name) {
  return first_wrong_word(words, name) == kPageWords;
}

// Says what a page holds instead of what it should: slow, for reports only.
inline std::string describe_content(const uint64_t* words, PageName expected, uint64_t pages) {
  if (holds(words, {expected.seed, expected.page, 0})) return "zeros";
  for (unsigned version = 1; version < 256; ++version) {
    PageName other{expected.seed, expected.page, static_cast<uint8_t>(version)};
    if (holds(words, other)) return "version " + std::to_string(version) + " of this page";
  }
  for (uint64_t page = 0; page < pages; ++page) {
    if (holds(words, {expected.seed, page, expected.version})) return "the bytes of page " + std::to_string(page);
  }
  size_t zero_words = 0;
  for (size_t i = 0; i < kPageWords; ++i) zero_words += words[i] == 0;
  size_t wrong = first_wrong_word(words, expected);
  return "a mixture, wrong from byte " + std::to_string(wrong * 8) + ", with " + std::to_string(zero_words * 8) +
         " bytes of zeros";
}

}  // namespace guest
