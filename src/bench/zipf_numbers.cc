#include "bench/zipf_numbers.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace hecaton::bench {
namespace {

double zeta(uint64_t count, double skew) {
  double sum = 0;
  for (uint64_t i = 1; i <= count; ++i) sum += std::pow(static_cast<double>(i), -skew);
  return sum;
}

}  // namespace

ZipfNumbers::ZipfNumbers(uint64_t count, double skew)
    : count_(count),
      alpha_(1 / (1 - skew)),
      zeta_(zeta(count, skew)),
      second_(1 + std::pow(0.5, skew)),
      eta_((1 - std::pow(2.0 / static_cast<double>(count), 1 - skew)) / (1 - zeta(2, skew) / zeta_)) {
  HEC_CHECK(count >= 2 && skew > 0 && skew < 1);
}

uint64_t ZipfNumbers::next(std::mt19937_64& random) const {
  const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;
  if (uniform * zeta_ < 1) return 0;
  if (uniform * zeta_ < second_) return 1;
  const double number = static_cast<double>(count_) * std::pow(eta_ * uniform - eta_ + 1, alpha_);
  return std::min(static_cast<uint64_t>(number), count_ - 1);
}

}  // namespace hecaton::bench
