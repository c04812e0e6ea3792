#include "pager/pager.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "pager/exposure_watch.h"
#include "pager/loops.h"
#include "pager/recovery.h"
#include "pager/state_memory.h"

namespace hecaton {
namespace {

// Signals belong to the threads of the program that hosts the pager.
std::thread start_thread(const char* name, std::function<void()> body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(body));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread.native_handle(), name);
  return thread;
}

// A window is at most what eviction keeps free, so that it need not wait for room; and an eighth of what may be
// resident is ahead of its readers, at all shards together, so that no page leaves again before it is read.
Prefetcher::Limits prefetch_limits(const PagerConfig& config, const PagerState& state) {
  const uint64_t window = std::min(config.prefetch_pages, state.budget.reserve());
  return {state.table.pages(), window, config.prefetch_adaptive, state.budget.limit() / (8 * state.stripes.shards())};
}

// A donor on this machine is reached without a wire: compressing could only trade processor for processor.
Compression compression_for(const PagerConfig& config) {
  const bool all_here =
      std::all_of(config.nodes.begin(), config.nodes.end(), [](const NodeUrl& url) { return url.is_loopback(); });
  return config.compression == Compression::kAuto && all_here ? Compression::kOff : config.compression;
}

const char* name_of(Protection protection) {
  switch (protection) {
    case Protection::kNone:
      return "none";
    case Protection::kMirror:
      return "mirror";
    case Protection::kSpill:
      return "spill";
  }
  return "impossible";
}

std::string state_of(const DonorPool& pool, size_t donor) {
  const DonorState state = pool.states().of(donor);
  if (state != DonorState::kLive) return name_of(state);
  if (pool.placement().is_leaving(donor)) return pool.placement().placed_at(donor) > 0 ? "draining" : "drained";
  return pool.placement().is_open(donor) ? "live" : "full";
}

uint64_t exposed_bytes_of(const DonorPool& pool) {
  const PlacementTable& placement = pool.placement();
  uint64_t bytes = 0;
  for (uint64_t extent = 0; extent < placement.extents(); ++extent) {
    const CopySet copies = placement.copies_of(ExtentNumber(extent));
    size_t complete = 0;
    for (size_t i = 0; i < copies.size(); ++i) {
      complete += copies[i].complete && pool.states().of(copies[i].donor) < DonorState::kLost;
    }
    if (!copies.empty() && complete < placement.wanted()) bytes += kExtentBytes;
  }
  return bytes;
}

void fill_pool_stats(const DonorPool& pool, PagerStats& stats) {
  const PlacementTable& placement = pool.placement();
  stats.protection = name_of(placement.protection());
  for (size_t i = 0; i < pool.donors(); ++i) {
    if (!pool.shown(i) || (placement.is_local_disk(i) && placement.placed_at(i) == 0)) continue;
    const std::string url = pool.url(i).printable();
    stats.nodes.push_back({placement.is_local_disk(i) ? "local disk (" + url + ")" : url, state_of(pool, i),
                           placement.placed_at(i) * kExtentBytes});
  }
  stats.exposed_bytes = exposed_bytes_of(pool);
}

// The key is as old as the state memory.
Result<std::optional<SealState>> seal_in(const StateMemory& kept) {
  const std::span<std::byte> memory = kept.seal();
  if (memory.empty()) return std::optional<SealState>();
  const SealState seal = SealState::at(memory.data(), pages_in(kept.region_bytes()));
  HEC_TRY(seal.lock());
  HEC_TRY(PageSeal::create(seal));  // so that no thread finds later that it cannot be had
  return std::optional(seal);
}

}  // namespace

// Members in the order that makes destruction right: loops go before what they use.
class Pager::Impl {
 public:
  Impl(PagerConfig the_config, int the_memfd, Mapping view, StateMemory kept_state, std::optional<SealState> the_seal,
       uint64_t the_epoch, std::unique_ptr<DonorPool> the_pool)
      : config(std::move(the_config)),
        stripes(Stripes::over(pages_in(config.region_bytes), config.shards)),
        memfd(the_memfd),
        own_view(std::move(view)),
        kept(std::move(kept_state)),
        seal(the_seal),
        epoch(the_epoch),
        pool(std::move(the_pool)),
        loss(config.on_lost_memory, config.on_loss) {}

  const PagerConfig config;
  const Stripes stripes;
  const int memfd;
  Mapping own_view;
  const StateMemory kept;
  const std::optional<SealState> seal;
  const uint64_t epoch;
  std::unique_ptr<DonorPool> pool;
  LossLatch loss;
  std::atomic<bool> stop{false};
  std::vector<Userfaultfd> uffds;  // of each shard
  std::unique_ptr<GuestMemory> memory;
  std::unique_ptr<PagerState> state;
  std::unique_ptr<EvictLoop> evict;
  std::unique_ptr<PrefetchLoop> prefetch;
  std::vector<std::unique_ptr<FaultLoop>> faults;  // of each shard
  std::vector<std::thread> threads;
  std::vector<uint64_t> beats;  // of each loop, when they were last looked at

  void wake_all() {
    for (auto& fault : faults) fault->nudge().always();
    if (prefetch) prefetch->nudge().always();
    if (evict) evict->nudge().always();
  }
  void tend_pool() {
    while (!stop.load() && !loss.happened()) {
      pool->tend(monotonic_ns());
      watch_exposure(monotonic_ns());
      std::unique_lock lock(tend_mutex);
      tend_wake.wait_for(lock, std::chrono::milliseconds(DonorPool::kTendMs), [&] { return stop.load(); });
    }
  }
  void watch_exposure(int64_t now_ns) {
    if (pool->placement().wanted() < 2 || now_ns < next_exposure_ns) return;
    next_exposure_ns = now_ns + kExposureNs;
    const uint64_t bytes = exposed_bytes_of(*pool);
    switch (exposure.update(bytes, now_ns)) {
      case ExposureWatch::Tell::kNothing:
        return;
      case ExposureWatch::Tell::kExposed:
        return pool->notice(fmt::format(
            "NOT protected: up to {} of the VM's memory are at one place only, and get no second copy; if there is no "
            "room for it, add a donor (hecaton pool add), or make room at one or on the spill disk",
            format_size(bytes)));
      case ExposureWatch::Tell::kProtectedAgain:
        return pool->notice("all of the VM's memory is protected again");
    }
  }
  static constexpr int64_t kExposureNs = 1'000'000'000;
  ExposureWatch exposure;
  int64_t next_exposure_ns = 0;
  std::mutex tend_mutex;
  std::condition_variable tend_wake;
};

Pager::Pager(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Pager::~Pager() {
  stop();
  if (impl_->config.state_fd < 0) impl_->pool->close_regions();  // nobody can go on from here
}

Result<std::unique_ptr<Pager>> Pager::create(PagerConfig config, int memfd, std::string* problem) {
  HEC_CHECK(config.region_bytes > 0 && config.region_bytes % kPageBytes == 0);
  HEC_CHECK(config.local_bytes >= PagerConfig::kMinimumLocalBytes);
  auto explain = [&](auto result) {
    if (!result.ok()) *problem = result.error().describe();
    return result;
  };
  OwnedFd own_state;
  if (config.state_fd < 0) own_state = HEC_TRY(explain(StateMemory::create_file(config.region_bytes, config.seal)));
  StateMemory kept = HEC_TRY(explain(StateMemory::open(own_state.valid() ? own_state.get() : config.state_fd)));
  HEC_CHECK(kept.region_bytes() == config.region_bytes && config.seal == !kept.seal().empty());
  const std::optional<SealState> seal = HEC_TRY(explain(seal_in(kept)));
  const uint64_t epoch = kept.begin_epoch();
  PoolConfig pool_config;
  pool_config.nodes = config.nodes;
  pool_config.vm_name = config.name;
  pool_config.region_bytes = config.region_bytes;
  pool_config.insecure = config.insecure;
  pool_config.credentials = config.credentials;
  pool_config.protection = config.protection;
  pool_config.local_disk = config.local_disk;
  pool_config.on_notice = config.on_notice;
  pool_config.shards = Stripes::over(pages_in(config.region_bytes), config.shards).shards();
  pool_config.identity = kept.identity();
  pool_config.placement_words = kept.placement_words();
  pool_config.records = kept.members();
  auto pool = HEC_TRY(DonorPool::open(pool_config, problem));
  Mapping own_view = HEC_TRY(explain(Mapping::shared(memfd, config.region_bytes)));
  // The host's own memory limit is about what the pager needs to run, not about the guest's pages.
  munlock(own_view.data(), own_view.size());
  return std::unique_ptr<Pager>(new Pager(std::make_unique<Impl>(std::move(config), memfd, std::move(own_view),
                                                                 std::move(kept), seal, epoch, std::move(pool))));
}

Stripes Pager::stripes() const {
  return impl_->stripes;
}

Result<void> Pager::attach(std::vector<Userfaultfd> uffds, RemoteAddress base, UffdFeatures features) {
  Impl& impl = *impl_;
  HEC_CHECK(impl.threads.empty() && uffds.size() == impl.stripes.shards());
  impl.uffds = std::move(uffds);
  impl.memory = std::make_unique<UffdGuestMemory>(impl.uffds, impl.stripes, base, impl.memfd, impl.own_view.data(),
                                                  features.continue_wp());
  impl.state = std::make_unique<PagerState>(impl.kept.page_words(), impl.config.local_bytes / kPageBytes, *impl.memory,
                                            impl.pool->placement(), impl.stripes, impl.config.on_lost_memory, impl.seal,
                                            &impl.kept.counters());
  if (impl.epoch > 1) {
    const Recovered found = recover(*impl.state);
    event_log().info("takeover: resident='{}' remote='{}' unsettled='{}' punched='{}'", found.resident, found.remote,
                     found.unsettled, found.punched);
  }
  LoopContext context{
      *impl.state, *impl.pool, impl.loss, impl.stop, compression_for(impl.config), impl.config.repair_bytes_per_second};
  impl.evict = HEC_TRY(EvictLoop::create(context));
  impl.prefetch = HEC_TRY(PrefetchLoop::create(context));
  Prefetcher prefetcher(prefetch_limits(impl.config, *impl.state));
  std::vector<Nudge*> fault_nudges;
  std::vector<FaultLoop*> peers;
  for (unsigned shard = 0; shard < impl.stripes.shards(); ++shard) {
    impl.faults.push_back(
        HEC_TRY(FaultLoop::create(context, shard, impl.uffds[shard], base, prefetcher, *impl.evict, *impl.prefetch)));
    fault_nudges.push_back(&impl.faults.back()->nudge());
    peers.push_back(impl.faults.back().get());
  }
  for (FaultLoop* fault : peers) fault->set_peers(peers);
  impl.evict->set_fault_nudges(fault_nudges);
  impl.prefetch->set_nudges(fault_nudges, &impl.evict->nudge());
  impl.pool->set_wake([&impl] { impl.wake_all(); });  // before any of them may use it
  for (auto& fault : impl.faults) {
    const std::string name = fmt::format("hec-fault-{}", impl.threads.size());
    impl.threads.push_back(start_thread(name.c_str(), [&fault] { fault->run(); }));
  }
  impl.threads.push_back(start_thread("hec-prefetch", [&impl] { impl.prefetch->run(); }));
  impl.threads.push_back(start_thread("hec-evict", [&impl] { impl.evict->run(); }));
  impl.threads.push_back(start_thread("hec-pool", [&impl] { impl.tend_pool(); }));
  return {};
}

void Pager::stop() {
  Impl& impl = *impl_;
  impl.stop.store(true);
  impl.wake_all();
  { std::lock_guard lock(impl.tend_mutex); }
  impl.tend_wake.notify_all();
  for (std::thread& thread : impl.threads) thread.join();
  impl.threads.clear();
}

Result<void> Pager::add_donor(const NodeUrl& url, std::string* problem) {
  return impl_->pool->add(url, problem);
}

Result<void> Pager::drain_donor(const NodeUrl& url, std::string* problem) {
  return impl_->pool->drain(url, problem);
}

Result<void> Pager::remove_donor(const NodeUrl& url, bool force, std::string* problem) {
  return impl_->pool->remove(url, force, problem);
}

void Pager::close_region() {
  HEC_CHECK(impl_->threads.empty());
  impl_->pool->close_regions();
}

bool Pager::goes_round() {
  Impl& impl = *impl_;
  if (impl.threads.empty() || impl.loss.happened()) return true;
  std::vector<uint64_t> beats{impl.prefetch->heart().beats(), impl.evict->heart().beats()};
  for (const auto& fault : impl.faults) beats.push_back(fault->heart().beats());
  bool all = true;
  for (size_t i = 0; i < impl.beats.size(); ++i) all = all && beats[i] != impl.beats[i];
  if (all) impl.beats = std::move(beats);
  impl.wake_all();
  return all;
}

uint64_t Pager::predecessors() const {
  return impl_->epoch - 1;
}

const FaultTrace& Pager::last_demand() const {
  HEC_CHECK(impl_->state);
  return impl_->state->counters.last_demand;
}

PagerStats Pager::stats() const {
  const Impl& impl = *impl_;
  PagerStats stats{};
  stats.guest_ram_bytes = impl.config.region_bytes;
  stats.local_limit_bytes = impl.config.local_bytes / kPageBytes * kPageBytes;
  stats.table_bytes_per_page = static_cast<double>(PageTable::kBytesPerPage) +
                               static_cast<double>(PlacementTable::kBytesPerExtent + PagerState::kBytesPerExtent +
                                                   PageTable::kBytesPerExtent + EvictionPolicy::kBytesPerExtent) /
                                   static_cast<double>(kPagesPerExtent);
  if (impl.config.seal) stats.table_bytes_per_page += static_cast<double>(sizeof(SealRecord));
  stats.sealed = impl.config.seal;
  stats.threads = impl.threads.size();
  stats.pager_restarts = impl.epoch - 1;
  stats.shards = impl.stripes.shards();
  stats.connections = impl.pool->connections();
  stats.rdma_read_pages = impl.pool->direct_pages();
  const LossReport loss = impl.loss.first();
  stats.lost_pages = loss.pages;
  fill_pool_stats(*impl.pool, stats);
  if (!impl.state) return stats;
  const PagerCounters& counters = impl.state->counters;
  stats.resident_bytes = impl.state->budget.resident() * kPageBytes;
  // The peak is that of all pagers of the run; each adds its own.
  std::atomic<uint64_t>& peak = impl.state->counters.resident_peak;
  uint64_t seen = peak.load();
  while (impl.state->budget.peak() > seen && !peak.compare_exchange_weak(seen, impl.state->budget.peak())) {
  }
  stats.resident_peak_bytes = peak.load() * kPageBytes;
  int64_t remote = impl.state->remote_pages.load();
  stats.remote_bytes = remote > 0 ? static_cast<uint64_t>(remote) * kPageBytes : 0;
  stats.faults = counters.faults.value();
  stats.faults_zero = counters.faults_zero.value();
  stats.faults_remote = counters.faults_remote.value();
  stats.faults_minor = counters.faults_minor.value();
  stats.faults_protect = counters.faults_protect.value();
  stats.faults_late = counters.faults_late.value();
  stats.faults_stalled = counters.faults_stalled.value();
  stats.prefetched_pages = counters.prefetched.value();
  stats.prefetch_used_pages = counters.prefetch_used.value();
  stats.prefetch_late_faults = counters.prefetch_late.value();
  stats.prefetch_pauses = counters.prefetch_pauses.value();
  stats.prefetch_paused = impl.state->prefetch_paused.load() > 0;
  stats.evicted_pages = counters.evicted.value();
  stats.written_back_pages = counters.written_back.value();
  stats.zero_pages = counters.zeroed.value();
  stats.compressed_pages = counters.compressed.value();
  stats.wire_bytes_written = counters.wire_bytes_written.value();
  stats.compressing = impl.config.compression == Compression::kOn || impl.state->compressing.load();
  stats.bad_seals = counters.bad_seals.value();
  stats.discarded_pages = counters.discarded.value();
  stats.taken_back_pages = counters.taken_back.value();
  stats.refetched_pages = counters.refetched.value();
  stats.repaired_pages = counters.repaired.value();
  stats.hedged_reads = counters.hedged.value();
  stats.failed_over_reads = counters.failed_over.value();
  if (impl.config.on_lost_memory == OnLoss::kPoison) stats.lost_pages = counters.lost.value();
  stats.reprotected_bytes = impl.evict->reprotected_bytes();
  stats.fault_us_p50 = counters.fault_us.quantile(0.5);
  stats.fault_us_p90 = counters.fault_us.quantile(0.9);
  stats.fault_us_p99 = counters.fault_us.quantile(0.99);
  stats.fault_us_max = counters.fault_us.max();
  return stats;
}

}  // namespace hecaton
