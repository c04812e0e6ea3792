// What must hold in a simulated world after every step, and at its end.
#include <fmt/format.h>

#include <algorithm>

#include "paging/paging_sim.h"

namespace hecaton::sim {

bool PagingSim::has_what_it_had(size_t donor) const {
  const Known& known = known_[donor];
  return known.machine->runs() && known.machine->generation() == known.generation;
}

bool PagingSim::all_protected() const {
  const PlacementTable& placement = pool_->placement();
  for (uint64_t extent = 0; extent < placement.extents(); ++extent) {
    const CopySet copies = placement.copies_of(ExtentNumber(extent));
    size_t good = 0;
    for (size_t i = 0; i < copies.size(); ++i) {
      const size_t donor = copies[i].donor;
      good +=
          copies[i].complete && pool_->states().live(donor) && has_what_it_had(donor) && !placement.is_leaving(donor);
    }
    if (!copies.empty() && good < placement.wanted()) return false;
  }
  return true;
}

bool PagingSim::all_drained() const {
  const PlacementTable& placement = pool_->placement();
  for (size_t donor = 0; donor < pool_->donors(); ++donor) {
    if (placement.is_leaving(donor) && pool_->states().live(donor) && placement.placed_at(donor) > 0) return false;
  }
  return true;
}

std::string PagingSim::fault_of_copies(PageNumber page, uint32_t version, const std::byte* bytes) {
  const CopySet copies = pool_->placement().copies_of(extent_of(page));
  if (copies.complete_copies() == 0) return "no donor has a complete copy of its extent";
  for (size_t i = 0; i < copies.size(); ++i) {
    const size_t donor = copies[i].donor;
    // One that is being filled gets what leaves dirty; what was Clean already it gets by the repair.
    if (!copies[i].complete || !has_what_it_had(donor)) continue;
    if (damaged_.contains({known_[donor].machine, page.value})) continue;
    auto stored = known_[donor].machine->peek(page);
    if (world_.wild && keeper_->repairer().unreadable_pages() > 0) continue;  // it may be one of these
    if (!stored) return fmt::format("donor {} ({}) does not have it", donor, url_of(donor));
    if (stored->entry.version != version || !stored->intact) {
      return fmt::format("donor {} ({}) has version {} of it", donor, url_of(donor), stored->entry.version);
    }
    if (bytes && stored->bytes.size() == kPageBytes && std::memcmp(stored->bytes.data(), bytes, kPageBytes) != 0) {
      return fmt::format("donor {} ({}) has other bytes", donor, url_of(donor));
    }
  }
  return {};
}

// What the table promises of an extent's pages is so, at every complete copy, always.
void PagingSim::audit(ExtentNumber extent) {
  const uint64_t lacking = pool_->lacking_copies();
  if (lacking > pool_->placement().extents() * (pool_->placement().wanted() + 1)) {
    return breach(fmt::format("audit: {} copies are said to lack room, more than there are", lacking), PageNumber(0));
  }
  const CopySet copies = pool_->placement().copies_of(extent);
  const uint64_t end = std::min(world_.pages, (extent.value + 1) * kPagesPerExtent);
  for (PageNumber page(extent.value * kPagesPerExtent); page.value < end; ++page) {
    const PageStatus status = state_->table.get(page);
    if (status.busy || (status.state != PageState::kRemote && status.state != PageState::kClean)) continue;
    if (lost_pages_.contains(page.value)) continue;
    if (copies.complete_copies() == 0) return breach("audit: no donor has a complete copy of its extent", page);
    for (size_t i = 0; i < copies.size(); ++i) {
      const size_t donor = copies[i].donor;
      if (!copies[i].complete || !has_what_it_had(donor)) continue;
      if (damaged_.contains({known_[donor].machine, page.value})) continue;
      auto stored = known_[donor].machine->peek(page);
      if (stored && stored->entry.version == status.version && stored->intact) continue;
      if (world_.wild && keeper_->repairer().unreadable_pages() > 0) continue;  // it may be one of these
      return breach(
          fmt::format("audit: donor {} ({}), which is said to have a complete copy, has {} of it", donor, url_of(donor),
                      stored ? fmt::format("version {}", stored->entry.version) : std::string("nothing")),
          page);
    }
  }
}

void PagingSim::on_loss(const LossReport& report) {
  tell("memory is lost: " + report.reason);
  losses_.push_back(report);
  ++figures_.losses;
  const PageNumber first = report.ranges.empty() ? PageNumber(0) : report.ranges.front().first;
  if (!world_.wild) return breach("memory is lost, though one donor failed at a time: " + report.reason, first);
  for (const PageRun& run : report.ranges) {
    for (PageNumber page = run.first; page < run.end(); ++page) {
      lost_pages_.insert(page.value);
      const uint32_t version = state_->table.get(page).version;
      const CopySet copies = pool_->placement().copies_of(extent_of(page));
      for (size_t i = 0; i < copies.size(); ++i) {
        const size_t donor = copies[i].donor;
        if (!copies[i].complete || !pool_->states().hoped_for(donor) || !has_what_it_had(donor)) continue;
        // As good as damaged: its last answers were lies.
        if (known_[donor].machine->lied_ns > now_ns() - 60 * kS) continue;
        auto stored = known_[donor].machine->peek(page);
        if (!stored || stored->entry.version != version || !stored->intact) continue;
        return breach(
            fmt::format("a page is called lost that donor {} ({}) has: {}", donor, url_of(donor), report.reason), page);
      }
    }
  }
}

// ---------------------------------------------------------------- the end

void PagingSim::settle_and_verify() {
  if (over()) return;
  calm_ = true;
  heal_all();
  const int64_t patience_ns = now_ns() + 120 * kS;
  auto at_rest = [this] {
    return !waiting_processor() && !keeper_->changes_due() && !keeper_->repair_due() &&
           keeper_->evictor().in_flight() == 0 && !keeper_->evictor().more_discards() && !keeper_->any_owed() &&
           prefetch_->worker().in_flight() == 0 && all_protected() && all_drained();
  };
  depth_ = kMaxDepth;  // no preemption
  while (!over() && !at_rest() && now_ns() < patience_ns) {
    network_.advance(static_cast<int64_t>(random(10 * kMs)));
    for (Shard& shard : shards_) fault_turn(shard);
    evict_turn();
    prefetch_turn();
    pool_turn();
  }
  depth_ = 0;
  if (over()) return;
  size_t live = 0;
  for (size_t i = 0; i < pool_->donors(); ++i) {
    live += pool_->states().live(i) && !pool_->placement().is_leaving(i);
  }
  if (const Processor* left = waiting_processor()) {
    // All donors were removed: the guest waits until one is added.
    if (live > 0) return breach("a processor is never woken", left->page);
    return check_end();
  }
  if (!at_rest()) {
    const bool room = world_.lends_extents >= pool_->placement().extents() && live >= pool_->placement().wanted();
    if (!all_drained() && room) return breach("a donor is never drained", PageNumber(0));
    if (!all_protected() && room) return breach("protection never comes back", PageNumber(0));
    if (room) {
      return breach(fmt::format("no rest: repair due {}, in flight {}, owed {}, changes {}", keeper_->repair_due(),
                                keeper_->evictor().in_flight(), keeper_->owed(), keeper_->changes_due()),
                    PageNumber(0));
    }
  }
  check_end();
  for (uint64_t page = 0; page < world_.pages && !over(); ++page) {
    Processor reader;
    reader.page = PageNumber(page);
    processors_.push_back(reader);
    access(processors_.back());
    const int64_t until_ns = now_ns() + 30 * kS;
    while (processors_.back().waiting && !over() && now_ns() < until_ns) {
      network_.advance(static_cast<int64_t>(random(50'000)));
      for (Shard& shard : shards_) fault_turn(shard);
      evict_turn();
      prefetch_turn();
      pool_turn();
    }
    if (processors_.back().waiting && !over()) breach("a processor is never woken at the end", PageNumber(page));
    processors_.pop_back();
  }
}

void PagingSim::check_end() {
  for (uint64_t extent = 0; extent < pool_->placement().extents() && !over(); ++extent) audit(ExtentNumber(extent));
  // Donors keep nothing that they were to forget.
  for (size_t donor = 0; donor < pool_->donors() && !over(); ++donor) {
    if (!pool_->states().live(donor) || !has_what_it_had(donor)) continue;
    known_[donor].machine->for_each_page(world_.pages, [&](const wire::PageEntry& entry, bool) {
      const PageStatus status = state_->table.get(entry.page);
      if (!pool_->placement().copies_of(extent_of(entry.page)).has(donor)) {
        breach(fmt::format("donor {} ({}) keeps a page of an extent that it should not have", donor, url_of(donor)),
               entry.page);
      } else if (status.state == PageState::kAbsent && !status.held && !status.busy) {
        breach(fmt::format("donor {} ({}) keeps a page that was discarded", donor, url_of(donor)), entry.page);
      }
    });
  }
}

PagingSim::Figures PagingSim::figures() const {
  Figures figures = figures_;
  const PagerCounters& counters = state_->counters;
  figures.reprotected_bytes = keeper_->repairer().copied_bytes();
  figures.failed_over = counters.failed_over.value();
  figures.hedged = counters.hedged.value();
  figures.repaired = counters.repaired.value();
  figures.evicted = counters.evicted.value();
  figures.fetched = counters.faults_remote.value();
  figures.prefetched = counters.prefetched.value();
  figures.simulated_ns = now_ns() - start_ns_;
  return figures;
}

}  // namespace hecaton::sim
