#include "paging/paging_sim.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace hecaton::sim {
namespace {

constexpr size_t kMaxOldEvents = 64;
constexpr int kMaxDepth = 2;  // of preemptions within preemptions
constexpr int64_t kMs = 1'000'000, kS = 1'000'000'000;

}  // namespace

World World::of_seed(uint64_t seed) {
  std::mt19937_64 random(seed * 0x9e3779b97f4a7c15u + 1);
  auto below = [&](uint64_t n) { return random() % n; };
  World world;
  world.seed = seed;
  world.wild = below(3) == 0;
  world.pages = 200 + below(1200);
  world.budget = Budget::kMinimumPages + below(120);
  world.processors = 2 + below(6);
  world.protected_map = below(4) != 0;
  world.discards = below(4) != 0;
  world.shards = 1 + static_cast<unsigned>(below(2));
  world.compression = below(4) == 0 ? Compression::kOn : Compression::kOff;
  world.donors = 3 + below(3);
  const uint64_t extents = extents_in(world.pages);
  world.lends_extents = extents + below(4);
  const uint64_t kind = below(8);
  if (kind == 0) {
    world.protection = Protection::kSpill;
    world.donors = 1 + below(2);
  } else if (kind == 1 && world.wild) {
    world.protection = Protection::kNone;
    world.donors = 1 + below(3);
  } else if (kind == 2) {
    world.donors = 2;
  }
  if (world.wild && below(2) == 0) world.on_loss = OnLoss::kPoison;
  if (world.wild && below(4) == 0 && world.donors >= 3) world.lends_extents = extents * 2 / 3 + 2;
  constexpr std::array<int64_t, 3> kDelays{5'000, 50'000, 1'000'000};
  world.delay_ns = kDelays[below(kDelays.size())];
  constexpr std::array<int64_t, 3> kGraces{0, 2 * kS, 60 * kS};
  world.grace_ns = kGraces[below(kGraces.size())];
  return world;
}

std::string World::describe() const {
  return fmt::format(
      "seed {}: {} pages, {} of them local, {} processors, {} donors of {} extents, {} shards, protection {}, {}{}{}",
      seed, pages, budget, processors, donors, lends_extents, shards, static_cast<int>(protection),
      wild ? "wild" : "gentle", on_loss == OnLoss::kPoison ? ", poisons" : "",
      compression == Compression::kOn ? ", compresses" : "");
}

void PagingSim::Figures::add(const Figures& other) {
  steps += other.steps;
  failures += other.failures;
  losses += other.losses;
  lost_donors += other.lost_donors;
  reached_again += other.reached_again;
  reprotected_bytes += other.reprotected_bytes;
  failed_over += other.failed_over;
  hedged += other.hedged;
  repaired += other.repaired;
  evicted += other.evicted;
  fetched += other.fetched;
  prefetched += other.prefetched;
  added += other.added;
  simulated_ns += other.simulated_ns;
}

PagingSim::Shard::Shard(PagingSim& the_sim, unsigned number, LoopContext context, const Prefetcher& prefetcher)
    : sim(the_sim),
      server(context.state, prefetcher, *this, number),
      routes(context, number, server, [](int, size_t) { return Result<void>(); }),
      events(the_sim.events_[number]) {}

void PagingSim::Shard::prefetch(const PrefetchWindow& window) {
  if (sim.windows_.size() < 32) sim.windows_.push_back(window);
}

void PagingSim::Shard::hand_stream(unsigned shard, const Prefetcher::Stream& stream) {
  sim.shards_[shard].streams.push_back(stream);
}

PagingSim::PagingSim(const World& world)
    : GuestModel({world.seed, world.pages, world.processors, world.protected_map, Stripes(world.shards, 32)}),
      world_(world),
      network_random_(world.seed + 1),
      network_(network_random_, kS),
      words_(world.pages),
      loss_(world.on_loss, [this](const LossReport& report) { on_loss(report); }),
      start_ns_(now_ns()) {
  network_.typical_delay_ns = world.delay_ns;
  network_.grace_ns = world.grace_ns;
  PoolConfig config;
  config.vm_name = "vm";
  config.region_bytes = world.pages * kPageBytes;
  config.shards = world.shards;
  config.protection = world.protection;
  config.connect = [this](const NodeUrl& url, const Credentials&, Deadline by) { return network_.connect(url, by); };
  for (size_t i = 0; i < world.donors; ++i) {
    config.nodes.push_back(network_.add(world.lends_extents * kExtentBytes).url());
  }
  if (world.protection == Protection::kSpill)
    config.local_disk = network_.add(2 * extents_in(world.pages) * kExtentBytes).url();
  config.on_notice = [this](const std::string& text) { tell(text); };
  std::string problem;
  auto pool = DonorPool::open(config, &problem);
  HEC_CHECK(pool.ok());
  pool_ = std::move(pool).value();
  note_new_donors();
  state_ = std::make_unique<PagerState>(words_, world.budget, *this, pool_->placement(), Stripes(world.shards, 32),
                                        world.on_loss);
  LoopContext context{*state_, *pool_, loss_, stop_, world.compression, 256_MiB, now_ns};
  keeper_ = std::make_unique<CopyKeeper>(context, CopyKeeper::Hooks{[] {}, [this] { preempt(); }});
  prefetch_ = std::make_unique<PrefetchRoutes>(context, PrefetchRoutes::Hooks{[] {}, [] {}});
  const Prefetcher prefetcher(
      {.region_pages = world.pages, .window_pages = 16, .ahead_pages = world.budget / world.shards});
  for (unsigned shard = 0; shard < world.shards; ++shard) shards_.emplace_back(*this, shard, context, prefetcher);
}

// The pool would wait for answers that cannot come.
PagingSim::~PagingSim() {
  calm_ = true;
  heal_all();
  for (Machine& machine : network_.machines()) network_.kill(machine);
  network_.advance(100 * kS);
}

// ---------------------------------------------------------------- the turns

void PagingSim::guest_turn() {
  Processor& processor = processors_[random(processors_.size())];
  if (!processor.waiting) run_processor(processor);
}

void PagingSim::deliver_event(Shard& shard) {
  if (!shard.events.removals.empty()) {
    const PageRun run = shard.events.removals.front();
    shard.events.removals.pop_front();
    discard_begins();
    shard.server.discard(run);
    discard_ends();
    return;
  }
  if (shard.events.faults.empty()) return;
  for (; !shard.streams.empty(); shard.streams.pop_front()) shard.server.adopt(shard.streams.front());
  Fault fault = shard.events.faults.front();
  shard.events.faults.pop_front();
  if (old_events_.size() < kMaxOldEvents)
    old_events_.push_back(fault);
  else
    old_events_[random(kMaxOldEvents)] = fault;
  fault.since_ns = INT64_MAX;  // never patient enough to call a discarded page lost
  shard.server.handle(fault);
}

void PagingSim::repeat_old_event() {
  if (old_events_.empty()) return;
  Fault fault = old_events_[random(old_events_.size())];
  fault.since_ns = INT64_MAX;
  Shard& shard = shards_[state_->stripes.shard_of(fault.page)];
  if (shard.running) return;
  Running running(shard.running);
  shard.server.handle(fault);
}

// As FaultLoop::run().
void PagingSim::fault_turn(Shard& shard) {
  if (shard.running || over()) return;
  Running running(shard.running);
  if (shard.routes.changes_due()) shard.routes.see_changes();
  shard.routes.read_replies();
  if (random(4) == 0) shard.routes.read_unasked(random(pool_->donors()));
  shard.routes.check_patience();
  for (uint64_t n = random(4); n > 0 && !over(); --n) deliver_event(shard);
  if (!over()) shard.server.retry_deferred();
}

// As EvictLoop::run().
void PagingSim::evict_turn() {
  if (in_evictor_ || over()) return;
  Running running(in_evictor_);
  if (keeper_->changes_due()) keeper_->see_changes();
  if (over()) return;
  keeper_->step_repair();
  for (uint64_t n = random(3); n > 0 && !over(); --n) keeper_->evictor().start();
  if (keeper_->owed() < Evictor::kDiscardsAtOnce && random(4) == 0) keeper_->evictor().send_discards();
  if (random(4) == 0) return;  // answers that are not read yet
  for (size_t donor = 0; donor < pool_->write_back_links().size() && !over(); ++donor) keeper_->receive(donor);
  if (!over()) keeper_->check_patience();
}

// As PrefetchLoop::run().
void PagingSim::prefetch_turn() {
  if (in_prefetcher_ || over()) return;
  Running running(in_prefetcher_);
  if (prefetch_->changes_due()) prefetch_->see_changes();
  for (size_t donor = 0; donor < pool_->prefetch_links().size() && !over(); ++donor) prefetch_->receive(donor);
  if (over()) return;
  prefetch_->check_patience();
  PrefetchWorker& worker = prefetch_->worker();
  worker.resume();
  if (worker.waiting() || windows_.empty()) return;
  const PrefetchWindow window = windows_.front();
  windows_.pop_front();
  worker.start(window);
}

void PagingSim::pool_turn() {
  if (in_pool_ || over()) return;
  Running running(in_pool_);
  pool_->tend(now_ns());
  note_new_donors();
}

void PagingSim::any_turn() {
  switch (random(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return guest_turn();
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
      return fault_turn(shards_[random(shards_.size())]);
    case 9:
    case 10:
    case 11:
      return evict_turn();
    case 12:
    case 13:
      return prefetch_turn();
    case 14:
      return pool_turn();
    case 15:
      if (random(4) == 0) repeat_old_event();
      if (world_.discards && random(4) == 0) discard_some();
      return;
  }
}

// Inside a kernel call of one of the pager's threads the guest and the donors run, and so may the other threads.
void PagingSim::preempt() {
  if (depth_ >= kMaxDepth || random(6) != 0 || over()) return;
  ++depth_;
  for (uint64_t n = random(8); n > 0 && !over(); --n) {
    if (random(4) == 0) network_.advance(static_cast<int64_t>(random(2 * static_cast<uint64_t>(world_.delay_ns))));
    any_turn();
  }
  --depth_;
}

void PagingSim::pass_time() {
  const uint64_t kind = random(1000);
  const uint64_t most = kind < 900 ? 20'000 : kind < 990 ? 2 * kMs : kind < 999 ? 100 * kMs : 2 * kS;
  network_.advance(static_cast<int64_t>(random(most)));
}

void PagingSim::step() {
  ++figures_.steps;
  pass_time();
  disturb();
  any_turn();
  if (over()) return;
  if (figures_.steps % 32 == 0) audit(ExtentNumber(random(pool_->placement().extents())));
}

void PagingSim::discard_some() {
  const PageRun run{PageNumber(random(world_.pages)), 1 + random(8)};
  for (PageNumber page = run.first; page < run.end(); ++page) {
    if (lost_pages_.contains(page.value)) return;
  }
  discard(run);
}

// ---------------------------------------------------------------- what happens to donors

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
  if (!world_.wild && (!failures_.empty() || !all_protected())) return;
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
  if (machine.partitioned) network_.resume(machine);
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

// ---------------------------------------------------------------- the checks

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
