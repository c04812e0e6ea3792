// Guesses which connection of a thread speaks next: the one that spoke last. Where that is mostly right, as with the
// one VM that a donor usually serves, looking at its socket first saves asking the kernel about all of them. With many
// that take turns it is mostly wrong, and each wrong look delays who does speak: then the guess rests until one
// connection has come several times in a row again.
//
// Pure. One thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace hecaton::donor {

class NextSpeaker {
 public:
  static constexpr size_t kNone = SIZE_MAX;

  // That connection had something to say, whether it was guessed or not.
  void spoke(size_t connection) {
    trust_ = connection == last_ ? std::min(trust_ + 1, kMost) : std::max(trust_ - kWrongCosts, 0);
    last_ = connection;
  }
  // It is not to be looked at before it has spoken again.
  void forget() { last_ = kNone; }
  // The one that spoke last; kNone if there is none.
  size_t last() const { return last_; }
  // The one to look at before all others; kNone: ask for all.
  size_t guess() const { return trust_ >= kTrusted ? last_ : kNone; }

 private:
  // Trusted while about seven of eight are right.
  static constexpr int kMost = 16, kTrusted = 8, kWrongCosts = 7;

  size_t last_ = kNone;
  int trust_ = 0;
};

}  // namespace hecaton::donor
