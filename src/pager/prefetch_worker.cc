#include "pager/prefetch_worker.h"

#include <algorithm>
#include <cstring>

#include "store/page_codec.h"

namespace hecaton {

PrefetchWorker::PrefetchWorker(PagerState& state, PrefetchBackend& backend)
    : state_(state),
      backend_(backend),
      requests_(kRequests),
      seal_(PageSeal::of(state.seal)),
      unpacked_(new std::byte[kMaxRequestPages * kPageBytes]) {
  for (Request& request : requests_) request.pages.reserve(kMaxRequestPages);
}

void PrefetchWorker::start(const PrefetchWindow& window) {
  HEC_CHECK(!waiting());
  window_ = window;
  next_ = 0;
  trigger_due_ = true;
  resume();
}

void PrefetchWorker::resume() {
  budget_short_ = false;
  while (waiting() && !budget_short_ && in_flight_ < kRequests) {
    Request& request = free_request();
    gather(request);
    if (!request.pages.empty()) submit(request);
  }
  if (state_.budget.eviction_due()) backend_.wake_evictor();
}

// Makes the next pages of the window Fetching, as far as they are Remote, at one donor, and within the budget.
void PrefetchWorker::gather(Request& request) {
  request.pages.clear();
  request.trigger = kNoTrigger;
  request.waits = state_.fetch_waits.load();
  for (; waiting() && request.pages.size() < kMaxRequestPages; ++next_) {
    const PageNumber page = window_.page(next_);
    if (state_.table.get(page).state != PageState::kRemote) continue;
    if (request.pages.empty() || extent_of(page) != extent_of(request.pages.back())) {
      const std::optional<size_t> donor = backend_.donor_of(extent_of(page));
      if (!donor) continue;
      if (!request.pages.empty() && *donor != request.donor) return;
      request.donor = *donor;
    }
    budget_short_ = !state_.budget.try_take_for_prefetch(1);
    if (budget_short_) return;
    if (!state_.table.begin_fetch(page)) {
      give_budget();
      continue;
    }
    state_.remote_pages.fetch_sub(1);
    request.pages.push_back(page);
    if (!trigger_due_ || next_ < window_.trigger) continue;
    request.trigger = page;  // the wished one, or the first after it that is really fetched
    trigger_due_ = false;
  }
}

PrefetchWorker::Request& PrefetchWorker::free_request() {
  auto request = std::find_if(requests_.begin(), requests_.end(), [](const Request& r) { return !r.used; });
  HEC_CHECK(request != requests_.end());
  return *request;
}

void PrefetchWorker::submit(Request& request) {
  if (window_.stride < 0) std::reverse(request.pages.begin(), request.pages.end());  // neighbours come in one call
  request.used = true;
  ++in_flight_;
  const uint64_t number = static_cast<uint64_t>(&request - requests_.data());
  if (!backend_.send_read(number, request.donor, request.pages)) give_up(number);
}

void PrefetchWorker::give_up(uint64_t number) {
  Request& request = requests_[number];
  HEC_CHECK(request.used);
  for (PageNumber page : request.pages) give_back(page);
  end(request);
}

void PrefetchWorker::end(Request& request) {
  request.used = false;
  --in_flight_;
}

Result<void> PrefetchWorker::on_read_reply(uint64_t number, wire::Status status, std::span<const std::byte> body) {
  if (number >= kRequests || !requests_[number].used) {
    return Error{ErrorCode::kProtocol, 0, "the donor answered a read that was not asked"};
  }
  Request& request = requests_[number];
  if (status == wire::Status::kOk) {
    wire::PageSetView answer = HEC_TRY(wire::PageSetView::decode(body));
    install(request, answer);
  } else {
    for (PageNumber page : request.pages) give_back(page);
  }
  end(request);
  return {};
}

bool PrefetchWorker::intact(const wire::PageSetCursor::Page& answer, PageNumber page) const {
  const wire::PageEntry& entry = answer.entry;
  return entry.state == wire::PageState::kPresent && entry.page == page &&
         entry.version == state_.table.get(page).version &&
         entry.checksum == wire::page_checksum(answer.stored, page, entry.version);
}

// The `i`-th page of an answer that has compressed ones, or is of a sealed VM, at its place among the others, so that
// neighbours still go in one call. Null: it is no page, or not the one that was sealed.
const std::byte* PrefetchWorker::unpack(std::span<const std::byte> stored, PageNumber page, size_t i) {
  std::span<std::byte, kPageBytes> place(unpacked_.get() + i * kPageBytes, kPageBytes);
  const bool whole = stored.size() == kPageBytes;
  if (seal_) {
    std::byte* opened = whole ? place.data() : opened_.data();
    if (!seal_->open(page, state_.table.get(page).version, stored, opened)) {
      state_.counters.bad_seals.add();
      return nullptr;
    }
    stored = {opened, stored.size()};
  } else if (whole) {
    std::memcpy(place.data(), stored.data(), kPageBytes);
  }
  return whole || decompress_page(stored, place) ? place.data() : nullptr;
}

void PrefetchWorker::install(const Request& request, const wire::PageSetView& answer) {
  PageRun run;
  const std::byte* run_bytes = nullptr;
  const bool as_it_is = !seal_ && !answer.any_packed();
  wire::PageSetCursor answers(answer);
  for (size_t i = 0; i < request.pages.size(); ++i) {
    const PageNumber page = request.pages[i];
    const auto got = answers.next();
    const std::byte* bytes = nullptr;
    if (got && intact(*got, page)) bytes = as_it_is ? got->stored.data() : unpack(got->stored, page, i);
    const bool good = bytes != nullptr;
    const bool joins = good && page != request.trigger && run.count > 0 && run.end() == page;
    if (!joins && run.count > 0) {
      install_run(request, run, run_bytes);
      run.count = 0;
    }
    if (!good) {
      give_back(page);
    } else if (page == request.trigger) {
      install_unmapped(page, bytes, true);
    } else if (joins) {
      ++run.count;
    } else {
      run = PageRun{page, 1};
      run_bytes = bytes;
    }
  }
  if (run.count > 0) install_run(request, run, run_bytes);
}

void PrefetchWorker::install_run(const Request& request, PageRun run, const std::byte* bytes) {
  while (run.count > 0) {
    uint64_t done = 0;
    // Waiters are woken after the table says Clean, so that the event of a woken thread finds a settled page.
    InstallOutcome outcome = state_.memory.copy(run, bytes, true, false, &done);
    for (uint64_t i = 0; i < done; ++i) {
      state_.table.finish_fetch(run.first + i, PageTable::Arrival::kPrefetched);
      state_.settle_clean(run.first + i);
    }
    state_.counters.prefetched.add(done);
    // The usual case is that nobody waits: see fetch_waits.
    if (done > 0 && state_.fetch_waits.load() != request.waits) state_.memory.wake({run.first, done});
    run = PageRun{run.first + done, run.count - done};
    bytes += done * kPageBytes;
    if (run.count == 0) return;
    if (outcome == InstallOutcome::kAlreadyPresent) {
      install_unmapped(run.first, bytes, false);
    } else if (done == 0) {
      give_back(run.first);  // an event must be read first, or the guest is gone
    } else {
      continue;
    }
    run = PageRun{run.first + 1, run.count - 1};
    bytes += kPageBytes;
  }
}

void PrefetchWorker::install_unmapped(PageNumber page, const std::byte* bytes, bool trigger) {
  std::memcpy(state_.memory.bytes(page), bytes, kPageBytes);
  state_.table.finish_fetch(page, trigger ? PageTable::Arrival::kPrefetchedTrigger : PageTable::Arrival::kPrefetched);
  state_.settle_clean(page);
  state_.counters.prefetched.add();
  state_.memory.wake({page, 1});
}

void PrefetchWorker::give_budget() {
  if (state_.give_budget(1)) backend_.wake_fault_threads();
}

void PrefetchWorker::give_back(PageNumber page) {
  state_.table.abort_fetch(page);
  state_.remote_pages.fetch_add(1);
  give_budget();
  state_.memory.wake({page, 1});  // its waiters' events are read and gone: let them fault again
}

}  // namespace hecaton
