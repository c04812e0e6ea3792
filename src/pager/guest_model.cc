#include "pager/guest_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace hecaton {

GuestModel::GuestModel(const Shape& shape)
    : processors_(shape.processors),
      events_(shape.stripes.shards()),
      shape_(shape),
      random_(shape.seed),
      memory_(shape.pages * kPageBytes),
      kernel_(shape.pages),
      truth_(shape.pages),
      forgiven_(shape.pages) {}

void GuestModel::breach(const std::string& what, PageNumber page) {
  if (!breach_.empty()) return;
  PageStatus status = pager().table.get(page);
  const KernelPage& kernel = kernel_[page.value];
  breach_ = fmt::format("{}; page {} is {}{} version {} in the table,{}{}{} in the kernel (seed {}, access {})", what,
                        page.value, name_of(status.state), status.busy ? " busy" : "", status.version,
                        kernel.present ? " present" : " a hole", kernel.mapped ? " mapped" : "",
                        kernel.protected_ ? " protected" : "", shape_.seed, accesses_);
}

uint64_t GuestModel::word_of(PageNumber page) const {
  uint64_t word;
  std::memcpy(&word, memory_.data() + page.value * kPageBytes + 8 * (page.value % 512), sizeof word);
  return word;
}

void GuestModel::set(PageNumber page, KernelPage state) {
  KernelPage& kernel = kernel_[page.value];
  present_ += static_cast<uint64_t>(state.present) - static_cast<uint64_t>(kernel.present);
  uncounted_ += static_cast<uint64_t>(state.uncounted) - static_cast<uint64_t>(kernel.uncounted);
  kernel = state;
}

// ---------------------------------------------------------------- the guest

void GuestModel::run_processor(Processor& processor) {
  if (!processor.waiting) {
    if (processor.scan > 0) {
      --processor.scan;
      const int64_t pages = static_cast<int64_t>(shape_.pages);
      const int64_t next = static_cast<int64_t>(processor.page.value) + processor.stride + pages;
      processor.page = PageNumber(static_cast<uint64_t>(next % pages));
    } else {
      processor.page = PageNumber(random(shape_.pages));
      processor.write = random(2) == 0;
      if (random(10) == 0) begin_scan(processor);
    }
  }
  access(processor);
}

// Forward, backward and with a stride: all of them are fetched ahead.
void GuestModel::begin_scan(Processor& processor) {
  constexpr std::array<int64_t, 6> kStrides{1, 1, -1, 2, -3, 16};
  processor.scan = 40;
  processor.write = random(4) == 0;
  processor.stride = kStrides[random(kStrides.size())];
}

void GuestModel::access(Processor& processor) {
  const PageNumber page = processor.page;
  KernelPage& kernel = kernel_[page.value];
  processor.waiting = false;
  if (kernel.poisoned) return;  // it has got its memory error
  processor.waiting = true;
  if (!kernel.mapped) {
    return raise(page, kernel.present ? Fault::Kind::kMinor : Fault::Kind::kMissing, processor.write);
  }
  if (processor.write && kernel.protected_) return raise(page, Fault::Kind::kWriteProtected, true);
  processor.waiting = false;
  ++accesses_;
  const uint64_t seen = word_of(page);
  const bool old = old_bytes_may_return() && seen < written_to_.size() && written_to_[seen] == page;
  if (seen != truth_[page.value] && !(forgiven_[page.value] && (seen == 0 || old))) {
    breach(fmt::format("the guest read {:#x} where it had written {:#x}", seen, truth_[page.value]), page);
  }
  if (!processor.write) return;
  truth_[page.value] = written_to_.size();
  written_to_.push_back(page);
  forgiven_[page.value] = false;
  std::memcpy(raw(page) + 8 * (page.value % 512), &truth_[page.value], 8);
}

void GuestModel::raise(PageNumber page, Fault::Kind kind, bool write) {
  events_of(page).faults.push_back({page, kind, write, 0});
}

void GuestModel::discard(PageRun run) {
  run.count = std::min(run.count, shape_.pages - run.first.value);
  run = shape_.stripes.within_stripe(run);  // the kernel tells of each mapping by itself
  if (must_read_first(run.first)) return;   // its thread waits until the one before has been read
  for (PageNumber page = run.first; page < run.end(); ++page) {
    for (const Processor& processor : processors_) {
      if (processor.waiting && processor.page == page) return;  // a guest does not discard what it is using
    }
  }
  for (PageNumber page = run.first; page < run.end(); ++page) {
    if (kernel_[page.value].poisoned) continue;
    set(page, {});
    std::memset(raw(page), 0, kPageBytes);
    forgiven_[page.value] = true;
  }
  events_of(run.first).removals.push_back(run);
}

const GuestModel::Processor* GuestModel::waiting_processor() const {
  auto waits = [](const Processor& processor) { return processor.waiting; };
  auto found = std::find_if(processors_.begin(), processors_.end(), waits);
  return found == processors_.end() ? nullptr : &*found;
}

// ---------------------------------------------------------------- the kernel

InstallOutcome GuestModel::zero_page(PageNumber page) {
  may_die();
  preempt();
  if (must_read_first(page)) return InstallOutcome::kRetry;
  if (kernel_[page.value].present) return InstallOutcome::kAlreadyPresent;
  std::memset(raw(page), 0, kPageBytes);
  set(page, {.present = true, .mapped = true});
  wake_waiters({page, 1});
  check_budget();
  may_die();
  return InstallOutcome::kInstalled;
}

InstallOutcome GuestModel::copy(PageRun run, const std::byte* source, bool write_protected, bool wake_too,
                                uint64_t* done) {
  may_die();
  preempt();
  *done = 0;
  InstallOutcome outcome = InstallOutcome::kInstalled;
  for (PageNumber page = run.first; page < run.end(); ++page, ++*done) {
    if (must_read_first(page)) outcome = InstallOutcome::kRetry;
    if (kernel_[page.value].present) outcome = InstallOutcome::kAlreadyPresent;
    if (outcome != InstallOutcome::kInstalled) break;
    std::memcpy(raw(page), source + *done * kPageBytes, kPageBytes);
    set(page, {.present = true, .mapped = true, .protected_ = write_protected});
    if (run.count > 1) may_die();
  }
  if (wake_too && *done > 0) wake_waiters({run.first, *done});
  check_budget();
  preempt();
  may_die();
  return outcome;
}

InstallOutcome GuestModel::map(PageNumber page, bool write_protected) {
  may_die();
  preempt();
  KernelPage& kernel = kernel_[page.value];
  if (must_read_first(page)) return InstallOutcome::kRetry;
  if (!kernel.present) return InstallOutcome::kNoPage;
  if (kernel.mapped) return InstallOutcome::kAlreadyPresent;
  kernel.mapped = true;
  kernel.protected_ = write_protected;
  uncounted_ -= kernel.uncounted;
  kernel.uncounted = false;
  wake_waiters({page, 1});
  may_die();
  return InstallOutcome::kInstalled;
}

InstallOutcome GuestModel::protect(PageRun run) {
  may_die();
  preempt();
  for (PageNumber page = run.first; page < run.end(); ++page) {
    if (must_read_first(page)) return InstallOutcome::kRetry;
    kernel_[page.value].protected_ = true;
    may_die();
  }
  preempt();
  may_die();
  return InstallOutcome::kInstalled;
}

InstallOutcome GuestModel::unprotect(PageNumber page) {
  may_die();
  preempt();
  if (must_read_first(page)) return InstallOutcome::kRetry;
  kernel_[page.value].protected_ = false;
  wake_waiters({page, 1});
  preempt();
  may_die();
  return InstallOutcome::kInstalled;
}

InstallOutcome GuestModel::wake(PageRun run) {
  may_die();
  wake_waiters(run);
  may_die();
  return InstallOutcome::kInstalled;
}

void GuestModel::wake_waiters(PageRun run) {
  for (Processor& processor : processors_) {
    if (processor.page >= run.first && processor.page < run.end()) processor.waiting = false;
  }
  // It tries the same access again at its next turn: waiting is set anew if it faults again.
  for (Processor& processor : processors_) {
    if (!processor.waiting && processor.page >= run.first && processor.page < run.end()) access(processor);
  }
}

InstallOutcome GuestModel::poison(PageNumber page) {
  may_die();
  preempt();
  if (!may_be_poisoned(page)) breach("a page is poisoned though nothing is lost", page);
  if (must_read_first(page)) return InstallOutcome::kRetry;
  if (kernel_[page.value].present) {
    breach("a page is poisoned that is here", page);
    return InstallOutcome::kAlreadyPresent;
  }
  kernel_[page.value].poisoned = true;
  wake_waiters({page, 1});
  may_die();
  return InstallOutcome::kInstalled;
}

Result<void> GuestModel::punch(PageRun run) {
  may_die();
  preempt();
  for (PageNumber page = run.first; page < run.end(); ++page) {
    if (kernel_[page.value].present) check_punch(page);
    set(page, {});
    std::memset(raw(page), 0, kPageBytes);
    may_die();
  }
  preempt();
  may_die();
  return {};
}

std::byte* GuestModel::bytes(PageNumber page) {
  may_die();
  if (evictor_runs()) preempt();  // the guest may write to a page while others of its batch are read
  // An access through the pager's view makes a page where there is none.
  KernelPage with_page = kernel_[page.value];
  with_page.uncounted |= !with_page.present && pager().table.get(page).state == PageState::kAbsent;
  with_page.present = true;
  set(page, with_page);
  if (writes_may_tear()) {
    const std::vector<std::byte> before(raw(page), raw(page) + kPageBytes);
    std::memset(raw(page), 0x5a, kPageBytes);
    may_die();
    std::copy(before.begin(), before.end(), raw(page));
  } else {
    may_die();
  }
  return raw(page);
}

PageRun GuestModel::next_present(PageNumber from) {
  auto present = [](const KernelPage& page) { return page.present; };
  auto first = std::find_if(kernel_.begin() + static_cast<std::ptrdiff_t>(from.value), kernel_.end(), present);
  auto end = std::find_if_not(first, kernel_.end(), present);
  return {PageNumber(static_cast<uint64_t>(first - kernel_.begin())), static_cast<uint64_t>(end - first)};
}

// ---------------------------------------------------------------- the checks

// Invariant 5.
void GuestModel::check_budget() {
  if (present_ - uncounted_ > pager().budget.limit())
    breach(fmt::format("{} pages resident of {}", present_ - uncounted_, pager().budget.limit()), PageNumber(0));
}

// Invariants 1 and 3: what is punched is named by the table as being elsewhere, and is there.
void GuestModel::check_punch(PageNumber page) {
  PageStatus status = pager().table.get(page);
  if (recovering()) return check_punch_of_recovery(page, status);
  if (forgiven_[page.value] || (discarding_ > 0 && status.state == PageState::kAbsent)) return;
  if (!status.busy) breach("a hole is punched while others may put the page in place", page);
  if (status.state == PageState::kAbsent) {
    if (truth_[page.value] != 0) breach("a page that is not zero is punched as zeros", page);
    return;
  }
  if (status.state != PageState::kRemote) return breach("a hole is punched before the table says Remote", page);
  if (std::string wrong = fault_of_copies(page, status.version, raw(page)); !wrong.empty()) {
    breach("a hole is punched while " + wrong, page);
  }
}

// What is here may be worth nothing; what the table names instead must be right.
void GuestModel::check_punch_of_recovery(PageNumber page, PageStatus status) {
  if (forgiven_[page.value] || status.state == PageState::kLost) return;
  if (status.state == PageState::kAbsent) {
    if (truth_[page.value] != 0) breach("recovery punches a page as zeros that is not zero", page);
    return;
  }
  if (status.state != PageState::kRemote) return breach("recovery punches a page that the table says is here", page);
  if (std::string wrong = fault_of_copies(page, status.version, nullptr); !wrong.empty()) {
    breach("recovery punches a page while " + wrong, page);
  }
}

}  // namespace hecaton
