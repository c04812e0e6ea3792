// Numbers 0 to n-1 of which number i comes up in proportion to 1 / (i + 1)^skew: a few are wanted all the time.
//
// Source: Gray, Sundaresan, Englert, Baclawski, Weinberger, "Quickly generating billion-record synthetic databases",
// SIGMOD 1994; the same that the Yahoo cloud serving benchmark uses. Pure.
#pragma once

#include <cstdint>
#include <random>

namespace hecaton::bench {

class ZipfNumbers {
 public:
  // `count` at least 2, 0 < skew < 1.
  ZipfNumbers(uint64_t count, double skew);

  uint64_t next(std::mt19937_64& random) const;

 private:
  const uint64_t count_;
  const double alpha_, zeta_, second_, eta_;
};

}  // namespace hecaton::bench
