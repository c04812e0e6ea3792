#include "residency/prefetcher.h"

#include <algorithm>

namespace hecaton {
namespace {

constexpr uint64_t kFull = 1024;

// Moves an average an eighth of the way.
uint64_t towards(uint64_t average, uint64_t target) {
  return average + (target > average ? (target - average + 7) / 8 : 0) -
         (target < average ? (average - target + 7) / 8 : 0);
}

}  // namespace

Prefetcher::Prefetcher(uint64_t region_pages, uint64_t most_pages, bool adaptive)
    : region_pages_(region_pages), most_pages_(most_pages), adaptive_(adaptive) {}

// How much in sequence a stream must have been before it gets a window: more where windows went to waste.
uint64_t Prefetcher::hits_needed() const {
  if (!adaptive_) return 1;
  if (usefulness_ >= kFull / 4) return 2;
  return usefulness_ >= kFull / 8 ? 8 : 32;
}

uint64_t Prefetcher::grown(uint64_t window) const {
  if (!adaptive_) return most_pages_;
  uint64_t wanted = window == 0 ? kFirstWindow : usefulness_ >= kFull / 2 ? window * 2 : window;
  return std::min(wanted, most_pages_);
}

Prefetcher::Stream* Prefetcher::find_by_next(PageNumber page) {
  for (Stream& stream : streams_) {
    // A page or two may be missing from the sequence: another thread took it, or it was resident.
    if (stream.last_used != 0 && page >= stream.next && page.value - stream.next.value <= 2) return &stream;
  }
  return nullptr;
}

Prefetcher::Stream& Prefetcher::replace_oldest(PageNumber page) {
  Stream& oldest = *std::min_element(streams_.begin(), streams_.end(),
                                     [](const Stream& a, const Stream& b) { return a.last_used < b.last_used; });
  oldest = Stream{page + 1, PageNumber(), {}, 0, time_};
  return oldest;
}

std::optional<PrefetchWindow> Prefetcher::open_window(Stream& stream, uint64_t pages) {
  if (stream.next.value >= region_pages_) return std::nullopt;
  pages = std::min(pages, region_pages_ - stream.next.value);
  PrefetchWindow window{{stream.next, pages}, stream.next + pages / 2};
  stream.next = window.pages.end();
  stream.trigger = window.trigger;
  stream.pages = window.pages;
  return window;
}

std::optional<PrefetchWindow> Prefetcher::on_fault(PageNumber page) {
  if (most_pages_ == 0) return std::nullopt;
  ++time_;
  Stream* stream = find_by_next(page);
  if (!stream) {
    replace_oldest(page);
    return std::nullopt;
  }
  stream->last_used = time_;
  stream->next = page + 1;
  if (++stream->hits < hits_needed()) return std::nullopt;
  return open_window(*stream, grown(stream->pages.count));
}

Prefetcher::Hit Prefetcher::on_trigger(PageNumber trigger) {
  ++time_;
  usefulness_ = towards(usefulness_, kFull);
  for (Stream& stream : streams_) {
    if (stream.pages.count == 0 || stream.trigger != trigger) continue;
    const PageRun used = stream.pages;
    stream.last_used = time_;
    ++stream.hits;
    return {used, open_window(stream, grown(used.count))};
  }
  return {};
}

void Prefetcher::on_waste(uint64_t windows) {
  for (uint64_t i = 0; i < std::min<uint64_t>(windows, 64); ++i) usefulness_ = towards(usefulness_, 0);
}

}  // namespace hecaton
