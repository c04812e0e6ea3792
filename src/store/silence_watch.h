// Notices a donor that is connected but does not answer: its process is stopped, its machine hangs, or the network
// between is cut. An end of the connection is noticed by the socket itself.
//
// One thread. Times are monotonic nanoseconds, given by the caller.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace hecaton {

class SilenceWatch {
 public:
  // A donor that owes an answer and sends none for this long, or for this many times what its answers usually take, is
  // silent; and dead after kPatienceNs.
  static constexpr int64_t kSilentNs = 250'000'000;
  static constexpr int64_t kSilentTimes = 8;
  static constexpr int64_t kPatienceNs = 10'000'000'000;
  // How long a loop that is owed answers may sleep before it looks again.
  static constexpr int kCheckMs = 50;

  explicit SilenceWatch(size_t donors) : donors_(donors) {}
  // Donors are numbered in order; new ones come at the end.
  void grow(size_t donors) {
    if (donors > donors_.size()) donors_.resize(donors);
  }

  void asked(size_t donor, int64_t now_ns) {
    if (donors_[donor].owed++ == 0) donors_[donor].heard_ns = now_ns;
    ++owed_;
  }
  // False: it owed nothing.
  bool answered(size_t donor, int64_t now_ns) {
    Donor& it = donors_[donor];
    if (it.owed == 0) return false;
    it.usual_ns += (now_ns - it.heard_ns - it.usual_ns) / 8;
    it.heard_ns = now_ns;
    it.silent = false;
    --it.owed;
    --owed_;
    return true;
  }
  // Its connection is gone, and what it owed with it.
  void forget(size_t donor) {
    owed_ -= donors_[donor].owed;
    donors_[donor] = Donor{};
  }
  uint32_t owed_by(size_t donor) const { return donors_[donor].owed; }
  bool any_owed() const { return owed_ > 0; }
  uint64_t owed() const { return owed_; }

  // Calls `silent(donor)` once for each silence, and `dead(donor)`. After reading what has arrived: a pager that was
  // itself stopped finds the answers waiting. Costs next to nothing: it looks at the donors only once in kCheckMs.
  template <typename Silent, typename Dead>
  void check(int64_t now_ns, Silent silent, Dead dead) {
    if (owed_ == 0 || now_ns < next_look_ns_) return;
    next_look_ns_ = now_ns + int64_t{kCheckMs} * 1'000'000;
    for (size_t donor = 0; donor < donors_.size(); ++donor) {
      Donor& it = donors_[donor];
      if (it.owed == 0) continue;
      const int64_t waited = now_ns - it.heard_ns;
      // Dead only if it was found silent by an earlier look: a pager that was itself stopped reads its answers between.
      if (it.silent && waited > kPatienceNs) {
        dead(donor);
      } else if (!it.silent && waited > std::max(kSilentNs, kSilentTimes * it.usual_ns)) {
        it.silent = true;
        silent(donor);
      }
    }
  }

 private:
  struct Donor {
    uint32_t owed = 0;
    bool silent = false;
    int64_t heard_ns = 0;
    int64_t usual_ns = kSilentNs / kSilentTimes;  // between two answers; at first a guess
  };
  std::vector<Donor> donors_;
  uint64_t owed_ = 0;
  int64_t next_look_ns_ = 0;
};

}  // namespace hecaton
