// Fetches windows of pages ahead of the guest, on connections of their own. A page is Fetching from the moment it is
// asked for, so a fault on it waits for this answer instead of asking again. All pages of a window are mapped when they
// come, write-protected, but one: the trigger is only put in the memfd.
//
// Where there is no room, in the budget or for requests, the window waits, and resume() goes on with it.
//
// One thread. Whatever goes wrong with a page here gives it back to Remote and wakes whoever waits: the demand path
// then asks anew, and judges.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "pager/pager_state.h"
#include "residency/prefetcher.h"
#include "store/page_seal.h"
#include "wire/frame.h"

namespace hecaton {

class PrefetchBackend {
 public:
  virtual ~PrefetchBackend() = default;
  // Where to read pages of that extent from; nothing if no donor can be asked now.
  virtual std::optional<size_t> donor_of(ExtentNumber extent) = 0;
  // Asks that donor for pages, all of them of extents that it has. False: it cannot be asked after all.
  virtual bool send_read(uint64_t request, size_t donor, std::span<const PageNumber> pages) = 0;
  virtual void wake_fault_threads() = 0;
  virtual void wake_evictor() = 0;
};

class PrefetchWorker {
 public:
  // Small enough that an answer is still in the processor's cache when its pages are put in place.
  static constexpr size_t kMaxRequestPages = 64;
  static constexpr size_t kRequests = 64;

  PrefetchWorker(PagerState& state, PrefetchBackend& backend);

  // Asks for what of the window is Remote. Only if no window waits.
  void start(const PrefetchWindow& window);
  void resume();
  bool waiting() const { return next_ < window_.count; }
  Result<void> on_read_reply(uint64_t request, wire::Status status, std::span<const std::byte> body);
  // The answer to that request never comes.
  void give_up(uint64_t request);
  // Whether a fault may have been left to that request.
  bool is_awaited(uint64_t request) const { return state_.fetch_waits.load() != requests_[request].waits; }
  size_t in_flight() const { return in_flight_; }

 private:
  static constexpr PageNumber kNoTrigger = PageNumber(UINT64_MAX);

  struct Request {
    std::vector<PageNumber> pages;  // rising
    PageNumber trigger = kNoTrigger;
    size_t donor = 0;
    uint64_t waits = 0;  // PagerState::fetch_waits when the first page became Fetching
    bool used = false;
  };
  void gather(Request& request);
  Request& free_request();
  void submit(Request& request);
  void end(Request& request);
  void give_budget();
  void give_back(PageNumber page);
  void install(const Request& request, const wire::PageSetView& answer);
  void install_run(const Request& request, PageRun run, const std::byte* bytes);
  void install_unmapped(PageNumber page, const std::byte* bytes, bool trigger);
  bool intact(const wire::PageSetCursor::Page& answer, PageNumber page) const;
  const std::byte* unpack(std::span<const std::byte> stored, PageNumber page, size_t i);

  PagerState& state_;
  PrefetchBackend& backend_;
  std::vector<Request> requests_;
  std::optional<PageSeal> seal_;
  alignas(64) std::array<std::byte, kPageBytes> opened_;  // a compressed page of a sealed VM, without its seal
  std::unique_ptr<std::byte[]> unpacked_;  // the pages of an answer, if any of it is compressed or sealed
  PrefetchWindow window_;                  // being asked for
  uint64_t next_ = 0;                      // of its pages
  bool trigger_due_ = false;               // no page of it was made the trigger yet
  bool budget_short_ = false;              // that is what the window waits for
  size_t in_flight_ = 0;
};

}  // namespace hecaton
