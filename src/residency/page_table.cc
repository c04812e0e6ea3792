#include "residency/page_table.h"

#include "base/check.h"

namespace hecaton {
namespace {

constexpr uint32_t kStateMask = 0x7;
constexpr uint32_t kBusy = 1u << 3;
constexpr uint32_t kHeld = 1u << 4;
constexpr uint32_t kTrigger = 1u << 5;
constexpr uint32_t kWritable = kTrigger;  // of a Fetching page
constexpr uint32_t kReferenced = 1u << 6;
constexpr uint32_t kPrefetched = 1u << 7;
constexpr uint32_t kGhost = 1u << 8;
constexpr uint32_t kLevelShift = 9;
constexpr uint32_t kLevelMask = 0x3;
constexpr uint32_t kVersionShift = 11;
constexpr uint32_t kVersionMask = 0x1fffff;
static_assert(PageTable::kMaxLevel == kLevelMask);

constexpr PageState state_of(uint32_t word) {
  return static_cast<PageState>(word & kStateMask);
}
constexpr bool busy(uint32_t word) {
  return word & kBusy;
}
constexpr uint32_t version_of(uint32_t word) {
  return word >> kVersionShift;
}
constexpr uint32_t level_of(uint32_t word) {
  return word >> kLevelShift & kLevelMask;
}
constexpr uint32_t with_level(uint32_t word, uint32_t level) {
  return (word & ~(kLevelMask << kLevelShift)) | level << kLevelShift;
}
constexpr uint32_t risen(uint32_t level) {
  return level < kLevelMask ? level + 1 : level;
}
constexpr uint32_t fallen(uint32_t level) {
  return level > 0 ? level - 1 : 0;
}
constexpr bool being_put_in_place(PageState state) {
  return state == PageState::kFetching || state == PageState::kFilling;
}
constexpr PageStatus status_of(uint32_t word) {
  return {.state = state_of(word),
          .busy = busy(word),
          .held = (word & kHeld) != 0,
          .trigger = (word & kTrigger) != 0,
          .referenced = (word & kReferenced) != 0,
          .prefetched = (word & kPrefetched) != 0,
          .ghost = (word & kGhost) != 0,
          .level = static_cast<uint8_t>(level_of(word)),
          .version = version_of(word)};
}
constexpr uint32_t with_state(uint32_t word, PageState state) {
  return (word & ~kStateMask) | static_cast<uint32_t>(state);
}
constexpr uint32_t with_version(uint32_t word, uint32_t version) {
  return (word & ((1u << kVersionShift) - 1)) | version << kVersionShift;
}
// What a page is after the death of its pager.
constexpr PageState recovered(PageState state, bool present, bool writable) {
  switch (state) {
    case PageState::kFilling:  // zeros, or what the guest has written since
      return present ? PageState::kDirty : PageState::kAbsent;
    case PageState::kFetching:  // not writable: perhaps half of it is here, and all of it is at the donor
      return present && writable ? PageState::kDirty : PageState::kRemote;
    case PageState::kLeaving:  // whatever was sent: these bytes are the newest
      return present ? PageState::kDirty : PageState::kAbsent;
    case PageState::kClean:
    case PageState::kDirty:  // a hole: the guest's process discarded it, and its event was not acted on
      return present ? state : PageState::kAbsent;
    case PageState::kAbsent:
    case PageState::kRemote:
    case PageState::kLost:
      return state;
  }
  return state;
}
// Zero means "never sent", so the count skips it when it comes round.
constexpr uint32_t next_version(uint32_t version) {
  uint32_t next = (version + 1) & kVersionMask;
  return next == 0 ? 1 : next;
}

}  // namespace

const char* name_of(PageState state) {
  switch (state) {
    case PageState::kAbsent:
      return "absent";
    case PageState::kRemote:
      return "remote";
    case PageState::kFetching:
      return "fetching";
    case PageState::kClean:
      return "clean";
    case PageState::kDirty:
      return "dirty";
    case PageState::kLeaving:
      return "leaving";
    case PageState::kFilling:
      return "filling";
    case PageState::kLost:
      return "lost";
  }
  return "impossible";
}

// Applies `next(word) → optional word` until it holds or declines. Sequentially consistent throughout: the table orders
// kernel calls of several threads, and a cheaper order would save nothing beside them.
template <typename Change>
bool PageTable::change(PageNumber page, Change next) {
  HEC_CHECK(page.value < words_.size());
  Word& word = words_[page.value];
  uint32_t seen = word.load();
  for (;;) {
    std::optional<uint32_t> wanted = next(seen);
    if (!wanted) return false;
    if (word.compare_exchange_weak(seen, *wanted)) return true;
  }
}

PageStatus PageTable::get(PageNumber page) const {
  HEC_CHECK(page.value < words_.size());
  return status_of(words_[page.value].load());
}

bool PageTable::begin_fill(PageNumber page) {
  return change(page, [](uint32_t word) -> std::optional<uint32_t> {
    if (busy(word) || state_of(word) != PageState::kAbsent) return std::nullopt;
    return with_state(word, PageState::kFilling);
  });
}

bool PageTable::begin_fetch(PageNumber page) {
  return change(page, [](uint32_t word) -> std::optional<uint32_t> {
    if (busy(word) || state_of(word) != PageState::kRemote) return std::nullopt;
    return with_state(word, PageState::kFetching);
  });
}

void PageTable::mark_writable(PageNumber page) {
  bool done = change(page, [](uint32_t word) -> std::optional<uint32_t> {
    if (state_of(word) != PageState::kFetching) return std::nullopt;
    return word | kWritable;
  });
  HEC_CHECK(done);
}

void PageTable::finish_fetch(PageNumber page, Arrival arrival) {
  bool done = change(page, [&](uint32_t word) -> std::optional<uint32_t> {
    if (!being_put_in_place(state_of(word))) return std::nullopt;
    word &= ~kWritable;
    switch (arrival) {
      case Arrival::kClean:
        return with_state(word, PageState::kClean);
      // That a page was fetched ahead is no sign that it is used again: its ghost ends here.
      case Arrival::kPrefetched:
        return (with_state(word, PageState::kClean) & ~kGhost) | kPrefetched;
      case Arrival::kPrefetchedTrigger:
        return (with_state(word, PageState::kClean) & ~kGhost) | kPrefetched | kTrigger;
      case Arrival::kDirty:
        return with_state(word, PageState::kDirty);
    }
    return std::nullopt;
  });
  HEC_CHECK(done);
  note_arrival(page);
}

void PageTable::abort_fetch(PageNumber page) {
  settle(page, PageState::kFetching, PageState::kRemote);
}
void PageTable::abort_fill(PageNumber page) {
  settle(page, PageState::kFilling, PageState::kAbsent);
}
void PageTable::drop_fetch(PageNumber page) {
  settle(page, PageState::kFetching, PageState::kAbsent);
}

void PageTable::settle(PageNumber page, PageState from, PageState to) {
  bool done = change(page, [&](uint32_t word) -> std::optional<uint32_t> {
    if (state_of(word) != from) return std::nullopt;
    return with_state(word, to) & ~kWritable;
  });
  HEC_CHECK(done);
}

// After the word: whoever takes the extent from the stack and looks at its pages finds the page there.
void PageTable::note_arrival(PageNumber page) {
  const uint64_t extent = extent_of(page).value;
  if (arrived_[extent].load() != kNotListed) return;
  uint32_t none = kNotListed;
  if (!arrived_[extent].compare_exchange_strong(none, kLast)) return;  // now it is ours to link
  uint32_t newest = newest_arrived_.load();
  do {
    arrived_[extent].store(newest);
  } while (!newest_arrived_.compare_exchange_weak(newest, static_cast<uint32_t>(extent) + 2));
}

bool PageTable::begin_dirty(PageNumber page) {
  return change(page, [](uint32_t word) -> std::optional<uint32_t> {
    if (busy(word) || !is_resident(state_of(word))) return std::nullopt;
    // Wanted while it was leaving: as good as having come back.
    if (state_of(word) == PageState::kLeaving) word |= kGhost;
    return (with_state(word, PageState::kDirty) & ~kTrigger) | kBusy | kReferenced;
  });
}

bool PageTable::begin_map(PageNumber page) {
  return change(page, [](uint32_t word) -> std::optional<uint32_t> {
    PageState state = state_of(word);
    if (busy(word) || (state != PageState::kClean && state != PageState::kDirty)) return std::nullopt;
    return (word & ~kTrigger) | kBusy | kReferenced;
  });
}

std::optional<PageState> PageTable::begin_discard(PageNumber page) {
  PageState before = PageState::kAbsent;
  bool done = change(page, [&](uint32_t word) -> std::optional<uint32_t> {
    before = state_of(word);
    if (busy(word) || being_put_in_place(before)) return std::nullopt;
    word = with_level(word, 0);
    return (with_state(word, PageState::kAbsent) & ~(kTrigger | kPrefetched | kReferenced | kGhost)) | kBusy;
  });
  return done ? std::optional(before) : std::nullopt;
}

bool PageTable::begin_absent(PageNumber page) {
  return change(page, [](uint32_t word) -> std::optional<uint32_t> {
    if (busy(word) || state_of(word) != PageState::kAbsent) return std::nullopt;
    return word | kBusy;
  });
}

bool PageTable::begin_gap(PageNumber page) {
  return change(page, [](uint32_t word) -> std::optional<uint32_t> {
    PageState state = state_of(word);
    if (busy(word) || (state != PageState::kAbsent && state != PageState::kRemote)) return std::nullopt;
    return word | kBusy;
  });
}

void PageTable::release(PageNumber page) {
  bool done = change(page, [](uint32_t word) -> std::optional<uint32_t> {
    if (!busy(word)) return std::nullopt;
    return word & ~kBusy;
  });
  HEC_CHECK(done);
}

// Busy or not: whoever holds the page maps it, or protects it, and a Dirty page may be protected.
bool PageTable::keep_here(PageNumber page) {
  return change(page, [](uint32_t word) -> std::optional<uint32_t> {
    if (state_of(word) != PageState::kClean) return std::nullopt;
    return with_state(word, PageState::kDirty);
  });
}

bool PageTable::lose(PageNumber page) {
  return change(page, [](uint32_t word) -> std::optional<uint32_t> {
    if (state_of(word) != PageState::kRemote && !being_put_in_place(state_of(word))) return std::nullopt;
    return with_state(word, PageState::kLost) & ~kWritable;
  });
}

bool PageTable::take_prefetched(PageNumber page) {
  return change(page, [](uint32_t word) -> std::optional<uint32_t> {
    if ((word & kPrefetched) == 0) return std::nullopt;
    return word & ~kPrefetched;
  });
}

std::optional<PageTable::Leave> PageTable::begin_leave(PageNumber page) {
  Leave leave{};
  bool done = change(page, [&](uint32_t word) -> std::optional<uint32_t> {
    PageState state = state_of(word);
    if (busy(word) || (state != PageState::kClean && state != PageState::kDirty)) return std::nullopt;
    leave.dirty = state == PageState::kDirty;
    leave.trigger = (word & kTrigger) != 0;
    leave.version = leave.dirty ? next_version(version_of(word)) : version_of(word);
    return (with_version(with_state(word, PageState::kLeaving), leave.version) & ~(kTrigger | kPrefetched)) | kBusy;
  });
  return done ? std::optional(leave) : std::nullopt;
}

void PageTable::cancel_leave(PageNumber page, const Leave& leave) {
  bool done = change(page, [&](uint32_t word) -> std::optional<uint32_t> {
    if (!busy(word) || state_of(word) != PageState::kLeaving) return std::nullopt;
    return with_state(word, leave.dirty ? PageState::kDirty : PageState::kClean) & ~kBusy;
  });
  HEC_CHECK(done);
}

void PageTable::mark_held(PageNumber page) {
  HEC_CHECK(page.value < words_.size());
  words_[page.value].fetch_or(kHeld);
}

bool PageTable::keep_dirty(PageNumber page, uint32_t version, bool referenced) {
  return change(page, [&](uint32_t word) -> std::optional<uint32_t> {
    if (busy(word) || state_of(word) != PageState::kLeaving || version_of(word) != version) return std::nullopt;
    return with_state(word, PageState::kDirty) | (referenced ? kReferenced : 0);
  });
}

bool PageTable::commit_clean(PageNumber page, uint32_t version) {
  return change(page, [&](uint32_t word) -> std::optional<uint32_t> {
    if (busy(word) || state_of(word) != PageState::kLeaving || version_of(word) != version) return std::nullopt;
    return with_state(word, PageState::kClean) | kHeld;
  });
}

bool PageTable::commit_remote(PageNumber page, uint32_t version) {
  return change(page, [&](uint32_t word) -> std::optional<uint32_t> {
    if (busy(word) || state_of(word) != PageState::kLeaving || version_of(word) != version) return std::nullopt;
    return (with_state(word, PageState::kRemote) & ~kReferenced) | kBusy | kHeld | kGhost;
  });
}

bool PageTable::commit_absent(PageNumber page, uint32_t version) {
  return change(page, [&](uint32_t word) -> std::optional<uint32_t> {
    if (busy(word) || state_of(word) != PageState::kLeaving || version_of(word) != version) return std::nullopt;
    return (with_state(word, PageState::kAbsent) & ~kReferenced) | kBusy | kGhost;
  });
}

PageStatus PageTable::look(PageNumber page, bool recent) {
  uint32_t looked_at = 0;
  change(page, [&](uint32_t word) -> std::optional<uint32_t> {
    const uint32_t level = level_of(word);
    uint32_t next = word;
    if (is_resident(state_of(word))) {
      if (word & kGhost) next = with_level(word, recent ? risen(level) : fallen(level));
      next &= ~(kGhost | kReferenced);
    } else if (!being_put_in_place(state_of(word))) {
      if (!(word & kGhost)) next = with_level(word, fallen(level));
      next &= ~kGhost;
    }
    looked_at = next | (word & kReferenced) | (recent && is_resident(state_of(word)) ? word & kGhost : 0);
    return next == word ? std::nullopt : std::optional(next);
  });
  return status_of(looked_at);
}

bool PageTable::take_discarded(PageNumber page) {
  return change(page, [](uint32_t word) -> std::optional<uint32_t> {
    if (busy(word) || state_of(word) != PageState::kAbsent || (word & kHeld) == 0) return std::nullopt;
    return word & ~kHeld;
  });
}

bool PageTable::recover(PageNumber page, bool present) {
  PageState settled = PageState::kAbsent;
  change(page, [&](uint32_t word) -> std::optional<uint32_t> {
    settled = recovered(state_of(word), present, (word & kWritable) != 0);
    // Nobody remembers the windows that were being fetched ahead.
    const uint32_t next = with_state(word, settled) & ~(kBusy | kTrigger | kPrefetched);
    return next == word ? std::nullopt : std::optional(next);
  });
  if (is_resident(settled)) note_arrival(page);
  return present && !is_resident(settled);
}

}  // namespace hecaton
