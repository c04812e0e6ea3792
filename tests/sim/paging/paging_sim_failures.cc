// What happens to donors, links and the pool in a simulated world.
#include <fmt/format.h>

#include <algorithm>

#include "paging/paging_sim.h"

namespace hecaton::sim {

void PagingSim::tell(const std::string& what) {
  story_.push_back(fmt::format("{:10.3f} s  step {}: {}", static_cast<double>(now_ns()) / 1e9, figures_.steps, what));
  if (story_.size() > 60) story_.pop_front();
  figures_.lost_donors += what.find(" is lost") != std::string::npos;
  figures_.reached_again += what.find(" is reached again") != std::string::npos;
}

std::string PagingSim::story() const {
  std::string all;
  for (const std::string& line : story_) all += "  " + line + "\n";
  const PlacementTable& placement = pool_->placement();
  for (size_t donor = 0; donor < pool_->donors(); ++donor) {
    all += fmt::format("  donor {} ({}): {}, {} of {} extents{}{}{}\n", donor, url_of(donor),
                       name_of(pool_->states().of(donor)), placement.placed_at(donor), placement.capacity(donor),
                       placement.is_open(donor) ? "" : ", closed", placement.is_leaving(donor) ? ", leaving" : "",
                       has_what_it_had(donor) ? "" : ", forgot");
  }
  return all + fmt::format("  {} pages resident of {}, {} extents, {} runs in flight, {} copies lack room\n",
                           state_->budget.resident(), world_.budget, placement.extents(),
                           keeper_->evictor().in_flight(), pool_->lacking_copies());
}

void PagingSim::note_new_donors() {
  for (size_t donor = known_.size(); donor < pool_->donors(); ++donor) {
    Machine& machine = network_.machine(pool_->url(donor));
    known_.push_back({&machine, machine.generation()});
    tell(fmt::format("donor {} is number {}", url_of(donor), donor));
  }
}

Machine& PagingSim::any_machine() {
  return network_.machines()[random(network_.machines().size())];
}

void PagingSim::disturb() {
  if (calm_) return;
  for (size_t i = 0; i < failures_.size();) {
    if (failures_[i].ends_ns > now_ns()) {
      ++i;
      continue;
    }
    heal(failures_[i]);
    failures_.erase(failures_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (now_ns() >= next_failure_ns_) begin_failure();
  if (now_ns() >= next_change_ns_) {
    change_pool();
    next_change_ns_ = now_ns() + static_cast<int64_t>(random(8 * kS));
  }
}

void PagingSim::begin_failure() {
  next_failure_ns_ = now_ns() + static_cast<int64_t>(random(world_.wild ? kS : 200 * kMs));
  // The pager may have slept through the last one: it is over only once it has seen what came of it.
  constexpr uint64_t kStepsToSee = 200;
  const bool seen = figures_.steps >= healed_at_step_ + kStepsToSee && now_ns() >= resent_until_ns_;
  if (!world_.wild && (!failures_.empty() || !seen || !all_protected())) return;
  // From a millisecond to half a minute.
  int64_t lasts = kMs;
  for (uint64_t n = random(15); n > 0; --n) lasts *= 2;
  Machine& machine = any_machine();
  const bool local_disk =
      world_.protection == Protection::kSpill && machine.url() == network_.machines()[world_.donors].url();
  if (local_disk && !world_.wild) return;
  const auto kind = static_cast<Failure::Kind>(random(static_cast<uint64_t>(Failure::Kind::kKinds)));
  for (const Failure& failure : failures_) {
    if (failure.machine == &machine) return;  // one thing at a time
  }
  if (!machine.runs()) return;
  fail(kind, machine, lasts);
}

void PagingSim::fail(Failure::Kind kind, Machine& machine, int64_t for_ns) {
  static constexpr std::array<const char*, 9> kNames{"is killed",        "hangs",   "is partitioned",
                                                     "one cut",          "all cut", "is slow",
                                                     "lies about pages", "is full", "has a damaged page"};
  ++figures_.failures;
  tell(fmt::format("{} {}, for {} ms", machine.url().printable(), kNames[static_cast<size_t>(kind)], for_ns / kMs));
  int64_t ends = now_ns() + for_ns;
  switch (kind) {
    case Failure::Kind::kKill:
      network_.kill(machine);
      break;
    case Failure::Kind::kHang:
      machine.hangs = true;
      break;
    case Failure::Kind::kPartition:
      machine.partitioned = true;
      break;
    case Failure::Kind::kCutOne:
      network_.cut_one(machine);
      ends = now_ns() + 300 * kMs;  // the pool must have noticed
      break;
    case Failure::Kind::kCutAll:
      network_.cut_all(machine);
      ends = now_ns() + 300 * kMs;
      break;
    case Failure::Kind::kSlow:
      machine.slow_ns = static_cast<int64_t>(random(400 * kMs));
      break;
    case Failure::Kind::kLie:
      machine.lie = static_cast<Lie>(1 + random(static_cast<uint64_t>(Lie::kKinds) - 1));
      machine.lie_one_in = 1 + static_cast<unsigned>(random(8));
      if (world_.wild && random(2) == 0) slow_another(machine, ends);
      break;
    case Failure::Kind::kFull:
      if (world_.protection == Protection::kNone) return;
      machine.fill_up();
      break;
    case Failure::Kind::kDamage: {
      if (!world_.wild) return;  // nobody can know when it is over
      const PageNumber page(random(world_.pages));
      if (machine.damage(page)) damaged_.emplace(&machine, page.value);
      return;
    }
    case Failure::Kind::kKinds:
      return;
  }
  failures_.push_back({kind, &machine, ends});
}

// One that always lies, and one that is only slow: what is lost is lost by impatience.
void PagingSim::slow_another(Machine& liar, int64_t ends_ns) {
  Machine& other = any_machine();
  for (const Failure& failure : failures_) {
    if (failure.machine == &other) return;
  }
  if (&other == &liar || !other.runs()) return;
  liar.lie_one_in = 1;
  other.slow_ns = static_cast<int64_t>(random(400 * kMs));
  failures_.push_back({Failure::Kind::kSlow, &other, ends_ns});
}

void PagingSim::heal(const Failure& failure) {
  Machine& machine = *failure.machine;
  tell(fmt::format("{} is well again", machine.url().printable()));
  healed_at_step_ = figures_.steps;
  if (machine.partitioned) {
    network_.resume(machine);
    resent_until_ns_ = now_ns() + Network::kMostResentNs;
  }
  machine.hangs = machine.partitioned = false;
  machine.slow_ns = 0;
  machine.lie = Lie::kNone;
  machine.empty_again();
  if (!machine.runs()) network_.start(machine);
}

void PagingSim::heal_all() {
  for (const Failure& failure : failures_) heal(failure);
  failures_.clear();
  for (Machine& machine : network_.machines()) {
    if (!machine.runs()) network_.start(machine);
  }
}

void PagingSim::change_pool() {
  if (in_pool_ || over()) return;
  std::string problem;
  const size_t donor = random(pool_->donors());
  const NodeUrl url = pool_->url(donor);
  switch (random(4)) {
    case 0:
      if (network_.machines().size() >= 7) return;
      if (pool_->add(network_.add(world_.lends_extents * kExtentBytes).url(), &problem).ok()) ++figures_.added;
      break;
    case 1: {
      size_t live = 0;
      for (size_t i = 0; i < pool_->donors(); ++i) {
        live += pool_->states().live(i) && !pool_->placement().is_leaving(i) && !pool_->placement().is_local_disk(i);
      }
      if (live <= pool_->placement().wanted() || pool_->placement().is_local_disk(donor)) return;
      if (pool_->drain(url, &problem).ok()) tell("drain " + url.printable());
      break;
    }
    case 2:
      if (pool_->placement().is_local_disk(donor)) return;
      if (!pool_->placement().is_leaving(donor) && !world_.wild) return;
      if (pool_->remove(url, world_.wild && random(4) == 0, &problem).ok()) tell("remove " + url.printable());
      break;
    case 3:
      if (pool_->placement().is_local_disk(donor)) return;
      if (pool_->add(url, &problem).ok()) {
        tell("add again " + url.printable());
        ++figures_.added;
      }
      break;
  }
  note_new_donors();
}

}  // namespace hecaton::sim
