#include "pager/loss.h"

#include <fmt/format.h>

namespace hecaton {

void LossLatch::report(const LossReport& loss) {
  if (happened_.exchange(true)) return;
  first_.with([&](LossReport& first) { first = loss; });
  if (on_loss_) on_loss_(loss);
}

LossReport LossLatch::first() const {
  return first_.with([](const LossReport& first) { return first; });
}

LossReport loss_of_donor(const PagerState& state, DonorPool& pool, size_t donor, const Error& error) {
  LossReport loss;
  loss.donor = donor;
  loss.reason = fmt::format("donor {} is lost: {}", pool.url(donor).printable(), error.describe());
  for (uint64_t extent = 0; extent < state.extents(); ++extent) {
    if (pool.placement().donor_of(ExtentNumber(extent)) != donor) continue;
    const uint64_t end = std::min(state.table.pages(), (extent + 1) * kPagesPerExtent);
    for (PageNumber page(extent * kPagesPerExtent); page.value < end; ++page) {
      PageState where = state.table.get(page).state;
      if (where != PageState::kRemote && where != PageState::kFetching) continue;
      ++loss.pages;
      if (!loss.ranges.empty() && loss.ranges.back().end() == page) {
        ++loss.ranges.back().count;
      } else {
        loss.ranges.push_back({page, 1});
      }
    }
  }
  return loss;
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
