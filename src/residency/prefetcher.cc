#include "residency/prefetcher.h"

#include <algorithm>
#include <cstdlib>

#include "base/check.h"

namespace hecaton {
namespace {

// A page or a few may be missing from a sequence: another thread took them, or they were resident.
constexpr int64_t kMostGap = 3;
// A stream that was not seen for so many events no longer counts when the room ahead is shared out.
constexpr uint64_t kActiveFor = 256;

int64_t number_of(PageNumber page) {
  return static_cast<int64_t>(page.value);
}

// How many strides lead from `from` to `to`, if a whole number of them does.
std::optional<int64_t> strides_between(int64_t from, int64_t to, int64_t stride) {
  if ((to - from) % stride != 0) return std::nullopt;
  return (to - from) / stride;
}

// Moves an average an eighth of the way.
uint64_t towards(uint64_t average, uint64_t target) {
  return average + (target > average ? (target - average + 7) / 8 : 0) -
         (target < average ? (average - target + 7) / 8 : 0);
}

}  // namespace

bool PrefetchWindow::contains(PageNumber wanted) const {
  if (count == 0) return false;
  const PageNumber last = page(count - 1);
  const PageNumber low = std::min(first, last), high = std::max(first, last);
  return wanted >= low && wanted <= high && (number_of(wanted) - number_of(first)) % stride == 0;
}

Prefetcher::Prefetcher(const Limits& limits) : limits_(limits) {
  HEC_CHECK(limits.region_pages < uint64_t{1} << 60);  // so that page numbers are fine as signed ones
}

// How often a stride must have repeated before it makes a stream: more where windows went to waste. A distance other
// than one page is more often chance.
uint64_t Prefetcher::hits_needed(int64_t stride) const {
  const uint64_t doubt = std::abs(stride) == 1 ? 0 : 1;
  if (!limits_.adaptive) return 1 + doubt;
  if (!paused()) return 2 + doubt;
  return usefulness_ >= kPauseBelow / 2 ? 8 : 32;
}

// ---------------------------------------------------------------- faults become streams

// The trace that this fault continues, brought up to date: best one whose stride it repeats, then the nearest, then
// none: the oldest is given up for it.
Prefetcher::Trace& Prefetcher::trace_for(PageNumber page) {
  Trace* nearest = nullptr;
  int64_t distance = 0;
  for (Trace& trace : traces_) {
    const int64_t delta = number_of(page) - number_of(trace.last);
    if (trace.last_used == 0 || delta == 0 || std::abs(delta) > kMostStride * (1 + kMostGap)) continue;
    if (trace.stride != 0 && delta % trace.stride == 0) {
      const int64_t steps = delta / trace.stride;
      if (steps >= 1 && steps <= 1 + kMostGap) {
        trace = Trace{page, trace.stride, trace.hits + 1, time_};
        return trace;
      }
    }
    if (std::abs(delta) > kMostStride || (nearest && std::abs(delta) >= std::abs(distance))) continue;
    nearest = &trace;
    distance = delta;
  }
  if (nearest) {
    *nearest = Trace{page, distance, 1, time_};
    return *nearest;
  }
  Trace& oldest = *std::min_element(traces_.begin(), traces_.end(),
                                    [](const Trace& a, const Trace& b) { return a.last_used < b.last_used; });
  oldest = Trace{page, 0, 0, time_};
  return oldest;
}

void Prefetcher::on_fault(PageNumber page) {
  current_ = kNone;
  if (limits_.window_pages == 0) return;
  ++time_;
  Trace& trace = trace_for(page);
  if (trace.stride != 0 && trace.hits >= hits_needed(trace.stride)) begin_stream(trace);
}

void Prefetcher::begin_stream(Trace& trace) {
  Stream& stream = stream_for(trace.last, trace.stride);
  stream.reader = number_of(trace.last);
  stream.told = stream.reader;
  stream.next = stream.reader + stream.stride;
  stream.last_used = time_;
  trace = Trace{};
  make_current(stream);
}

// The stream that comes by here, which has lost its reader (its windows found no place, or left too early); else one in
// place of the oldest.
Prefetcher::Stream& Prefetcher::stream_for(PageNumber page, int64_t stride) {
  for (Stream& stream : streams_) {
    if (stream.stride != stride) continue;
    const int64_t behind = number_of(page) - stream.reader;
    std::optional<int64_t> steps = strides_between(number_of(page), stream.next, stride);
    if (steps && behind / stride >= 0 && *steps >= -kMostGap - 1) return stream;
  }
  Stream& oldest = forget_oldest();
  oldest.stride = stride;
  oldest.window = limits_.adaptive ? std::min(kFirstWindow, most_window()) : limits_.window_pages;
  return oldest;
}

Prefetcher::Stream& Prefetcher::forget_oldest() {
  Stream& oldest = *std::min_element(streams_.begin(), streams_.end(),
                                     [](const Stream& a, const Stream& b) { return a.last_used < b.last_used; });
  if (oldest.opened > 0 && !oldest.used) on_waste(1);
  oldest = Stream{};
  return oldest;
}

void Prefetcher::adopt(const Stream& stream) {
  if (stream.opened == 0) return;
  const PageNumber newest = stream.windows[(stream.opened - 1) % kRemembered].first;
  Stream* known = stream_with(newest);
  if (!known) known = stream_with(stream.windows[(stream.opened + kRemembered - 2) % kRemembered].first);
  if (known && known->stride != stream.stride) known = nullptr;
  // It has gone on from there already.
  if (known && (known->next - stream.next) / stream.stride > 0) return;
  if (!known) known = &forget_oldest();
  *known = stream;
  known->last_used = ++time_;
}

// ---------------------------------------------------------------- windows are used

Prefetcher::Stream* Prefetcher::stream_with(PageNumber page) {
  for (Stream& stream : streams_) {
    for (uint64_t i = 0; i < std::min<uint64_t>(stream.opened, kRemembered); ++i) {
      if (stream.windows[i].contains(page)) return &stream;
    }
  }
  return nullptr;
}

void Prefetcher::meet_reader(Stream& stream, PageNumber page) {
  // An older window's trigger may be touched late, by a second reader: that is no step back.
  if ((number_of(page) - stream.reader) / stream.stride > 0) stream.reader = number_of(page);
  stream.last_used = ++time_;
  make_current(stream);
}

bool Prefetcher::on_late(PageNumber page) {
  current_ = kNone;
  Stream* stream = stream_with(page);
  if (!stream) return false;
  meet_reader(*stream, page);
  return true;
}

std::optional<PrefetchWindow> Prefetcher::on_trigger(PageNumber page) {
  current_ = kNone;
  usefulness_ = towards(usefulness_, kFull);
  Stream* stream = stream_with(page);
  if (!stream) return std::nullopt;
  meet_reader(*stream, page);
  stream->used = true;
  grow(*stream);
  return tell_passed(*stream);
}

std::optional<PrefetchWindow> Prefetcher::tell_passed(Stream& stream) const {
  // Not more than is remembered: the caller goes through them on the fault path.
  const int64_t most = static_cast<int64_t>(kRemembered * limits_.window_pages);
  const int64_t passed = std::min((stream.reader - stream.told) / stream.stride, most);
  if (passed <= 0) return std::nullopt;
  stream.told = stream.reader;
  const int64_t first = stream.reader - stream.stride * (passed - 1);
  return PrefetchWindow{PageNumber(static_cast<uint64_t>(first)), stream.stride, static_cast<uint64_t>(passed), 0};
}

void Prefetcher::on_waste(uint64_t windows) {
  for (uint64_t i = 0; i < std::min<uint64_t>(windows, 64); ++i) usefulness_ = towards(usefulness_, 0);
}

// ---------------------------------------------------------------- windows are opened

// Two windows of each stream are ahead of its reader, and a part of a third.
uint64_t Prefetcher::most_window() const {
  auto active = std::count_if(streams_.begin(), streams_.end(), [&](const Stream& stream) {
    return stream.opened > 0 && stream.last_used + kActiveFor > time_;
  });
  const uint64_t share = limits_.ahead_pages / (3 * static_cast<uint64_t>(std::max<std::ptrdiff_t>(active, 1)));
  return std::clamp<uint64_t>(share, 1, limits_.window_pages);
}

void Prefetcher::grow(Stream& stream) const {
  if (!limits_.adaptive) return;
  if (usefulness_ >= kFull / 2) stream.window *= 2;
  stream.window = std::min(stream.window, most_window());
}

std::optional<PrefetchWindow> Prefetcher::next_window() {
  if (current_ == kNone) return std::nullopt;
  Stream& stream = streams_[current_];
  // A reader that is still to prove itself gets one window.
  const uint64_t wanted = usefulness_ >= kFull / 2 ? 2 * stream.window : stream.window;
  const int64_t ahead = (stream.next - stream.reader) / stream.stride - 1;
  const int64_t left = stream.stride > 0
                           ? (static_cast<int64_t>(limits_.region_pages) - 1 - stream.next) / stream.stride
                           : stream.next / -stream.stride;
  const bool within = stream.next >= 0 && stream.next < static_cast<int64_t>(limits_.region_pages);
  if (!within || ahead >= static_cast<int64_t>(wanted)) {
    current_ = kNone;
    return std::nullopt;
  }
  return open_window(stream, std::min(stream.window, static_cast<uint64_t>(left) + 1));
}

PrefetchWindow Prefetcher::open_window(Stream& stream, uint64_t pages) {
  last_ = static_cast<size_t>(&stream - streams_.data());
  PrefetchWindow window{PageNumber(static_cast<uint64_t>(stream.next)), stream.stride, pages, pages / 2};
  stream.windows[stream.opened++ % kRemembered] = window;
  stream.next += stream.stride * static_cast<int64_t>(pages);
  return window;
}

}  // namespace hecaton
