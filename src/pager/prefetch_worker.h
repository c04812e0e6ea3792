// Fetches windows of pages ahead of the guest, on connections of their own. A page is Fetching from the moment it is
// asked for, so a fault on it waits for this answer instead of asking again. All pages of a window are mapped when they
// come, write-protected, but one: the trigger is only put in the memfd.
//
// One thread. Whatever goes wrong with a page here gives it back to Remote and wakes whoever waits: the demand path
// then asks anew, and judges.
#pragma once

#include <vector>

#include "pager/pager_state.h"
#include "residency/prefetcher.h"
#include "wire/frame.h"

namespace hecaton {

class PrefetchBackend {
 public:
  virtual ~PrefetchBackend() = default;
  // Asks the donor of these pages, all of one extent. False: the donor is lost.
  virtual bool send_read(uint64_t request, std::span<const PageNumber> pages) = 0;
  virtual void wake_fault_thread() = 0;
};

class PrefetchWorker {
 public:
  static constexpr size_t kMaxRequestPages = 32;

  PrefetchWorker(PagerState& state, PrefetchBackend& backend);

  // Asks for what of the window is Remote and has room in the budget.
  void start(const PrefetchWindow& window);
  Result<void> on_read_reply(uint64_t request, wire::Status status, std::span<const std::byte> body);
  size_t in_flight() const { return in_flight_; }
  // Whether another window's requests fit.
  bool has_room() const { return in_flight_ + kRequestsPerWindow <= kRequests; }

 private:
  static constexpr size_t kRequests = 64;
  static constexpr size_t kRequestsPerWindow = 20;

  struct Request {
    std::vector<PageNumber> pages;
    PageNumber trigger;
    bool used = false;
  };
  void submit(std::vector<PageNumber>& pages, PageNumber trigger);
  void give_back(PageNumber page);
  void install(const Request& request, const wire::PageSetView& answer);
  void install_run(PageRun run, const std::byte* bytes);
  void install_unmapped(PageNumber page, const std::byte* bytes, bool trigger);
  bool intact(const wire::PageSetView& answer, size_t i, PageNumber page) const;

  PagerState& state_;
  PrefetchBackend& backend_;
  std::vector<Request> requests_;
  std::vector<PageNumber> gathered_;
  size_t in_flight_ = 0;
};

}  // namespace hecaton
