// Notices a donor that is connected but does not answer: its process is stopped, or its machine hangs. A dead
// connection is noticed by the socket itself.
//
// One thread. Times are monotonic nanoseconds, given by the caller.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace hecaton {

class SilenceWatch {
 public:
  // A donor that owes an answer and sends none for this long is lost.
  static constexpr int64_t kPatienceNs = 10'000'000'000;
  // How long a loop that is owed answers may sleep before it looks again.
  static constexpr int kCheckMs = 1000;

  explicit SilenceWatch(size_t donors) : donors_(donors) {}

  void asked(size_t donor, int64_t now_ns) {
    if (donors_[donor].owed++ == 0) donors_[donor].heard_ns = now_ns;
    ++owed_;
  }
  // False: it owed nothing.
  bool answered(size_t donor, int64_t now_ns) {
    if (donors_[donor].owed == 0) return false;
    donors_[donor].heard_ns = now_ns;
    --donors_[donor].owed;
    --owed_;
    return true;
  }
  uint32_t owed_by(size_t donor) const { return donors_[donor].owed; }
  bool any_owed() const { return owed_ > 0; }
  uint64_t owed() const { return owed_; }

  // A donor that has been silent for too long. Ask after reading what has arrived: a pager that was itself stopped
  // finds the answers waiting. Costs next to nothing: it looks at the donors only once in kCheckMs.
  std::optional<size_t> silent(int64_t now_ns) {
    if (owed_ == 0 || now_ns < next_look_ns_) return std::nullopt;
    next_look_ns_ = now_ns + int64_t{kCheckMs} * 1'000'000;
    for (size_t donor = 0; donor < donors_.size(); ++donor) {
      if (donors_[donor].owed > 0 && now_ns - donors_[donor].heard_ns > kPatienceNs) return donor;
    }
    return std::nullopt;
  }

 private:
  struct Donor {
    uint32_t owed = 0;
    int64_t heard_ns = 0;
  };
  std::vector<Donor> donors_;
  uint64_t owed_ = 0;
  int64_t next_look_ns_ = 0;
};

}  // namespace hecaton
