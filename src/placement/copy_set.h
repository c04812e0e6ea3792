// Which donors have a copy of an extent: up to three, packed into one 64-bit word, so that it is read and changed as a
// whole. Three, because an extent that moves keeps its two copies until the new one is complete.
//
// A copy is complete when it has every page of the extent that the table promises to be at donors; until then it is
// being filled: it gets all writes, and is not read from.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"

namespace hecaton {

class CopySet {
 public:
  static constexpr size_t kMost = 3;
  static constexpr size_t kMostDonors = 65534;

  constexpr CopySet() = default;  // none: never placed, or all are lost
  constexpr explicit CopySet(uint64_t word) : word_(word) {}
  constexpr uint64_t word() const { return word_; }
  constexpr bool operator==(const CopySet&) const = default;
  // Whether the copies are at the same donors, complete or not.
  constexpr bool same_donors(CopySet other) const { return ((word_ ^ other.word_) & ~kCompleteBits) == 0; }

  struct Copy {
    size_t donor;
    bool complete;
  };
  constexpr bool empty() const { return word_ == 0; }
  constexpr size_t size() const {
    size_t copies = 0;
    for (size_t i = 0; i < kMost; ++i) copies += field(i) != 0;
    return copies;
  }
  // `i` < size(): the copies lie without gaps.
  constexpr Copy operator[](size_t i) const { return {static_cast<size_t>((field(i) >> 1) - 1), (field(i) & 1) != 0}; }
  constexpr bool has(size_t donor) const { return place_of(donor) < kMost; }
  constexpr size_t complete_copies() const {
    size_t copies = 0;
    for (size_t i = 0; i < kMost; ++i) copies += field(i) & 1;
    return copies;
  }

  // Whether a donor's copy is complete that was not, or was not there, in `before`.
  constexpr bool completes_more_than(CopySet before) const {
    for (size_t i = 0; i < size(); ++i) {
      const size_t was = before.place_of((*this)[i].donor);
      if ((*this)[i].complete && (was == kMost || !before[was].complete)) return true;
    }
    return false;
  }

  // Not more than kMost, each donor once.
  [[nodiscard]] constexpr CopySet with(size_t donor, bool complete) const {
    HEC_CHECK(size() < kMost && !has(donor) && donor < kMostDonors);
    return CopySet(word_ | (static_cast<uint64_t>(donor + 1) << 1 | (complete ? 1 : 0)) << (kFieldBits * size()));
  }
  [[nodiscard]] constexpr CopySet without(size_t donor) const {
    CopySet left;
    for (size_t i = 0; i < size(); ++i) {
      if ((*this)[i].donor != donor) left = left.with((*this)[i].donor, (*this)[i].complete);
    }
    return left;
  }
  [[nodiscard]] constexpr CopySet completed(size_t donor) const {
    const size_t place = place_of(donor);
    return place < kMost ? CopySet(word_ | uint64_t{1} << (kFieldBits * place)) : *this;
  }
  // The same copies, one of them known under another number from now on.
  [[nodiscard]] constexpr CopySet renamed(size_t from, size_t to) const {
    CopySet renamed;
    for (size_t i = 0; i < size(); ++i) {
      renamed = renamed.with((*this)[i].donor == from ? to : (*this)[i].donor, (*this)[i].complete);
    }
    return renamed;
  }

 private:
  static constexpr unsigned kFieldBits = 17;  // donor + 1, and whether the copy is complete
  static constexpr uint64_t kFieldMask = (uint64_t{1} << kFieldBits) - 1;
  static constexpr uint64_t kCompleteBits = 1 | uint64_t{1} << kFieldBits | uint64_t{1} << 2 * kFieldBits;
  constexpr uint64_t field(size_t i) const { return word_ >> (kFieldBits * i) & kFieldMask; }
  constexpr size_t place_of(size_t donor) const {
    for (size_t i = 0; i < kMost; ++i) {
      if (field(i) >> 1 == donor + 1) return i;
    }
    return kMost;
  }

  uint64_t word_ = 0;
};

}  // namespace hecaton
