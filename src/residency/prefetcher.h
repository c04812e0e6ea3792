// Which pages to fetch before they are asked for. Follows several sequential streams at once. A stream that is
// confirmed gets a window of pages fetched ahead; one page of each window, the trigger, is left unmapped: the minor
// fault of its first touch shows that the window is being used, and asks for the next one. Windows that are used grow,
// windows that leave untouched shrink, and after too many of those prefetching pauses and only probes.
// Pure. One thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "base/units.h"

namespace hecaton {

struct PrefetchWindow {
  PageRun pages;
  PageNumber trigger;  // one of them
};

class Prefetcher {
 public:
  // most_pages: the largest window; 0 turns prefetching off. adaptive false: windows always have most_pages.
  Prefetcher(uint64_t region_pages, uint64_t most_pages, bool adaptive);

  // A fault on a remote page. The window to fetch now, if any.
  std::optional<PrefetchWindow> on_fault(PageNumber page);
  // The first touch of a trigger. The window that it shows to be used, if it is still known, and the stream's next one.
  struct Hit {
    PageRun used;
    std::optional<PrefetchWindow> next;
  };
  Hit on_trigger(PageNumber trigger);
  // `windows` more triggers were evicted without having been touched.
  void on_waste(uint64_t windows);

 private:
  struct Stream {
    PageNumber next;     // the fault that would continue the stream
    PageNumber trigger;  // of the newest window
    PageRun pages;       // of the newest window; none yet: empty
    uint64_t hits = 0;   // faults and triggers in sequence
    uint64_t last_used = 0;
  };
  Stream* find_by_next(PageNumber page);
  Stream& replace_oldest(PageNumber page);
  std::optional<PrefetchWindow> open_window(Stream& stream, uint64_t pages);
  uint64_t hits_needed() const;
  uint64_t grown(uint64_t window) const;

  static constexpr size_t kStreams = 16;
  static constexpr uint64_t kFirstWindow = 8;
  const uint64_t region_pages_;
  const uint64_t most_pages_;
  const bool adaptive_;
  std::array<Stream, kStreams> streams_{};
  uint64_t time_ = 0;
  // Share of windows that were used, as an exponential average in 1/1024; starts undecided.
  uint64_t usefulness_ = 512;
};

}  // namespace hecaton
