// Which pages to fetch before they are asked for. Follows many streams at once: forward and backward, and with a
// stride of several pages. Faults are told apart by region and recency: a fault belongs to the recent one that lies
// near it, and a distance that repeats makes a stream of them.
//
//   faults  p, p+s, p+2s ──▶ stream ──▶ windows ahead of the reader, two of them: while it uses one, one comes
//
// One page of each window, the trigger, is left unmapped: the minor fault of its first touch shows that the window is
// used and where the reader is, and asks for the next one. Windows that are used grow. Windows that leave untouched
// count against prefetching as a whole; after too many it pauses and only probes: a stream must have gone on for long
// before it gets a window, and it is the use of those windows that ends the pause.
//
// Pure. One thread. Allocates nothing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "base/units.h"

namespace hecaton {

// `count` pages from `first` on, `stride` apart; a negative stride goes down.
struct PrefetchWindow {
  PageNumber first;
  int64_t stride = 1;
  uint64_t count = 0;
  uint64_t trigger = 0;  // which of them

  constexpr PageNumber page(uint64_t i) const { return PageNumber(first.value + static_cast<uint64_t>(stride) * i); }
  bool contains(PageNumber page) const;
};

class Prefetcher {
 public:
  static constexpr int64_t kMostStride = 64;

  struct Limits {
    uint64_t region_pages = 0;
    uint64_t window_pages = 0;  // of the largest window; 0 turns prefetching off
    bool adaptive = true;       // false: windows always have window_pages
    // What may be on its way or waiting to be read, of all streams together. Must be well within what may be resident,
    // or pages would leave again before they are read.
    uint64_t ahead_pages = UINT64_MAX;
  };
  explicit Prefetcher(const Limits& limits);

  // A stream and its reader. Others only carry it from one prefetcher to another.
  static constexpr size_t kRemembered = 4;
  struct Stream {
    int64_t stride = 0;   // 0: free
    int64_t next = 0;     // first page that no window has; may lie beyond the region
    int64_t reader = 0;   // the page that it was last seen at
    int64_t told = 0;     // up to where its pages were told to be used
    uint64_t window = 0;  // pages of the next window
    std::array<PrefetchWindow, kRemembered> windows{};
    uint64_t opened = 0;  // windows so far; the newest is windows[(opened - 1) % kRemembered]
    bool used = false;    // one of its windows was
    uint64_t last_used = 0;
  };

  // Each of these may make new windows due: take them with next_window() until there is none.
  //
  // A fault on a page that must be fetched.
  void on_fault(PageNumber page);
  // A fault on a page that is on its way. False: not in a window of ours.
  bool on_late(PageNumber page);
  // The first touch of a trigger. The pages that its reader has passed since the last one, if its stream is still
  // known.
  std::optional<PrefetchWindow> on_trigger(PageNumber page);
  std::optional<PrefetchWindow> next_window();

  // Where a reader comes to pages whose faults another prefetcher is told of, that one adopts the stream: as it was
  // when its last window was opened.
  const Stream& last_stream() const { return streams_[last_]; }
  void adopt(const Stream& stream);

  // `windows` more triggers left without having been touched.
  void on_waste(uint64_t windows);
  // Too much went to waste: only probing.
  bool paused() const { return limits_.adaptive && usefulness_ < kPauseBelow; }

 private:
  // A fault that may become a stream.
  struct Trace {
    PageNumber last;
    int64_t stride = 0;  // 0: alone so far
    uint64_t hits = 0;   // how often the stride has repeated
    uint64_t last_used = 0;
  };
  Trace& trace_for(PageNumber page);
  uint64_t hits_needed(int64_t stride) const;
  void begin_stream(Trace& trace);
  Stream& stream_for(PageNumber page, int64_t stride);
  Stream& forget_oldest();
  Stream* stream_with(PageNumber page);
  void make_current(const Stream& stream) { current_ = static_cast<size_t>(&stream - streams_.data()); }
  void meet_reader(Stream& stream, PageNumber page);
  std::optional<PrefetchWindow> tell_passed(Stream& stream) const;
  void grow(Stream& stream) const;
  uint64_t most_window() const;
  PrefetchWindow open_window(Stream& stream, uint64_t pages);

  static constexpr size_t kTraces = 32;
  static constexpr size_t kStreams = 32;
  static constexpr size_t kNone = kStreams;
  static constexpr uint64_t kFirstWindow = 8;
  static constexpr uint64_t kFull = 1024;
  static constexpr uint64_t kPauseBelow = kFull / 4;
  const Limits limits_;
  std::array<Trace, kTraces> traces_{};
  std::array<Stream, kStreams> streams_{};
  size_t current_ = kNone;  // the stream whose windows are due
  size_t last_ = 0;         // the one that got the last window
  uint64_t time_ = 0;
  // Share of windows that were used, as an exponential average in 1/1024; starts undecided.
  uint64_t usefulness_ = kFull / 2;
};

}  // namespace hecaton
