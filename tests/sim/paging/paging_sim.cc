#include "paging/paging_sim.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace hecaton::sim {
namespace {

constexpr size_t kMaxOldEvents = 64;

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

}  // namespace hecaton::sim
