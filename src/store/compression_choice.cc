#include "store/compression_choice.h"

#include <algorithm>

namespace hecaton {

bool CompressionChoice::packs(bool timed) {
  if (!measures() || !timed) return on_;
  ++timed_writes_;
  if (!decided()) return timed_writes_ % 2 == 0;
  return on_ != (timed_writes_ % kProbeEvery == 0);
}

void CompressionChoice::worked(int64_t compress_ns, int64_t decompress_ns) {
  // A plain mean at first, then one that forgets: guests do something else after a while.
  const double weight = 1.0 / static_cast<double>(std::min<size_t>(++pages_, 2 * kLeastPages));
  auto move = [&](double& mean, int64_t ns) {
    // One page in which the thread was preempted must not count like a thousand.
    const double most = pages_ == 1 ? 1e5 : 8 * mean + 1000;
    mean += weight * (std::clamp(static_cast<double>(ns), 0.0, most) - mean);
  };
  move(compress_ns_, compress_ns);
  move(decompress_ns_, decompress_ns);
}

void CompressionChoice::acknowledged(bool packed, uint64_t pages, int64_t busy_ns) {
  (packed ? packed_ : whole_).add(static_cast<double>(busy_ns) / static_cast<double>(pages));
  if (!measures() || !decided()) return;
  const double cost = compress_ns_ + packed_.median() + decompress_ns_;
  on_ = cost <= (on_ ? kEndAbove : kStartBelow) * whole_.median();
}

double CompressionChoice::Times::median() const {
  std::array<double, kWrites> sorted = ns_;
  const auto middle = sorted.begin() + kWrites / 2;
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

}  // namespace hecaton
