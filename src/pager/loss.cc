#include "pager/loss.h"

#include <fmt/format.h>

namespace hecaton {

void LossLatch::report(const LossReport& loss) {
  if (what_ == OnLoss::kPoison) {
    if (on_loss_) on_loss_(loss);
    return;
  }
  if (happened_.exchange(true)) return;
  first_.with([&](LossReport& first) { first = loss; });
  if (on_loss_) on_loss_(loss);
}

LossReport LossLatch::first() const {
  return first_.with([](const LossReport& first) { return first; });
}

void add_lost_page(LossReport& loss, PageNumber page) {
  ++loss.pages;
  if (!loss.ranges.empty() && loss.ranges.back().end() == page) {
    ++loss.ranges.back().count;
  } else {
    loss.ranges.push_back({page, 1});
  }
}

std::string describe_ranges(const LossReport& loss) {
  constexpr size_t kShown = 8;
  if (loss.pages == 0) return "none of the guest's memory was there, but it cannot be paged without it";
  std::string text = fmt::format("guest memory lost: {} pages ({})", loss.pages, format_size(loss.pages * kPageBytes));
  for (size_t i = 0; i < loss.ranges.size() && i < kShown; ++i) {
    const PageRun& run = loss.ranges[i];
    text += fmt::format("{} {:#x}-{:#x}", i == 0 ? ":" : ",", run.first.value * kPageBytes,
                        run.end().value * kPageBytes - 1);
  }
  if (loss.ranges.size() > kShown) text += fmt::format(" and {} more ranges", loss.ranges.size() - kShown);
  return text;
}

}  // namespace hecaton
