// How the donors of a pool are doing: one word each, known to all threads.
//
//            answers again                   the same instance is reached again (under a new number)
//         ┌────────────────┐             ┌──────────────────────────────────────────────────▶ Gone
//         ▼                │             │
//        Live ── owes an ─▶ Silent ─┐    │       it refuses, is another instance, or its time is up
//         │      answer             ├─▶ Cut ─────────────────────────────────────────────────▶ Lost
//         └── a connection ends ────┘
//
// Live      read from, written to
// Silent    connected, but it owes an answer for longer than its patience: others are read from and written to instead,
//           where there are others
// Cut       not connected; somebody is trying to reach it again
// Lost      what it holds is given up. It may come back, as a new donor with a new number
// Gone      its copies go under another number now, or it was removed
//
// Any thread. Numbers are given in order, and never twice, so that a number always means the same memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/check.h"

namespace hecaton {

enum class DonorState : uint8_t { kLive = 1, kSilent, kCut, kLost, kGone };
const char* name_of(DonorState state);

class DonorStates {
 public:
  explicit DonorStates(size_t most) : most_(most), states_(new std::atomic<DonorState>[most]) {
    for (size_t i = 0; i < most; ++i) states_[i].store(DonorState::kGone);
  }

  size_t most() const { return most_; }
  DonorState of(size_t donor) const { return states_[donor].load(); }
  bool live(size_t donor) const { return of(donor) == DonorState::kLive; }
  // It can be asked, and answers sooner or later.
  bool connected(size_t donor) const {
    const DonorState state = of(donor);
    return state == DonorState::kLive || state == DonorState::kSilent;
  }
  // What it holds may still be had.
  bool hoped_for(size_t donor) const { return of(donor) < DonorState::kLost; }

  void set(size_t donor, DonorState state) {
    HEC_CHECK(donor < most_);
    states_[donor].store(state);
    changes_.fetch_add(1);
  }
  // True if this call made the change.
  bool change(size_t donor, DonorState from, DonorState to) {
    if (!states_[donor].compare_exchange_strong(from, to)) return false;
    changes_.fetch_add(1);
    return true;
  }
  // Rises with every change. A thread that has seen all changes has seen this count.
  uint64_t changes() const { return changes_.load(); }
  // Something else that all threads must look at anew, a table of copies for one.
  void touch() { changes_.fetch_add(1); }

 private:
  const size_t most_;
  const std::unique_ptr<std::atomic<DonorState>[]> states_;
  std::atomic<uint64_t> changes_{0};
};

}  // namespace hecaton
