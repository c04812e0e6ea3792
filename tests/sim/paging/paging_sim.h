// The pager's logic of a whole VM with its donors, in one thread, from one seed: the real residency, placement, store,
// repair, eviction, fault and prefetch code (FaultServer, ReadRoutes, CopyKeeper, PrefetchRoutes, DonorPool) on a
// simulated guest and kernel (GuestModel), network, donors and clock (Network). Donors fail in every way while the
// guest runs; after each step the invariants of the design hold, or breach() says what does not.
//
// Two kinds of worlds: in a gentle one at most one donor fails at a time, until all is protected again: there nothing
// may be lost at all. In a wild one anything may fail at any time: there a loss is right if it is real, and must be
// reported; what the guest reads is right, or it does not read at all.
//
// A hook for a pager that crashes and is taken over belongs in step(): everything but GuestModel, the network and the
// words of the two tables ends and is made anew.
#pragma once

#include <memory>
#include <set>

#include "pager/copy_keeper.h"
#include "pager/guest_model.h"
#include "pager/prefetch_routes.h"
#include "pager/read_routes.h"
#include "paging/network.h"

namespace hecaton::sim {

inline constexpr int64_t kMs = 1'000'000, kS = 1'000'000'000;  // of the simulated clock

struct World {
  uint64_t seed = 1;
  uint64_t pages = 0, budget = 0;
  size_t processors = 4, donors = 3;
  bool protected_map = true, discards = true, wild = false;
  unsigned shards = 1;
  Protection protection = Protection::kMirror;
  OnLoss on_loss = OnLoss::kStop;
  Compression compression = Compression::kOff;
  uint64_t lends_extents = 0;  // each donor
  int64_t delay_ns = 20'000, grace_ns = 0;

  // Everything else follows from the seed.
  static World of_seed(uint64_t seed);
  std::string describe() const;
};

class PagingSim final : public GuestModel {
 public:
  explicit PagingSim(const World& world);
  ~PagingSim() override;

  // One turn of somebody, and some time.
  void step();
  // Heals everything, waits until nothing is under way, and reads every page back.
  void settle_and_verify();
  bool lost() const { return !losses_.empty(); }
  // No further step makes sense: the guest is stopped, or an invariant does not hold.
  bool over() const { return !breach().empty() || (lost() && world_.on_loss == OnLoss::kStop); }

  struct Figures {
    uint64_t steps = 0, failures = 0, losses = 0, lost_donors = 0, reached_again = 0, reprotected_bytes = 0;
    uint64_t failed_over = 0, hedged = 0, repaired = 0, evicted = 0, fetched = 0, prefetched = 0, added = 0;
    int64_t simulated_ns = 0;
    void add(const Figures& other);
  };
  Figures figures() const;
  std::string story() const;  // the last failures, oldest first

 private:
  // A fault thread.
  struct Shard final : FaultBackend {
    Shard(PagingSim& the_sim, unsigned number, LoopContext context, const Prefetcher& prefetcher);
    bool start_read(PageNumber page, uint32_t slot, bool again) override {
      return routes.start_read(page, slot, again);
    }
    bool wait_for_copy(PageNumber page, uint32_t slot) override { return routes.wait_for_copy(page, slot); }
    void prefetch(const PrefetchWindow& window) override;
    void hand_stream(unsigned shard, const Prefetcher::Stream& stream) override;
    void wake_evictor() override {}
    void wake_fault_threads() override {}
    void report_loss(LossReport report) override { sim.loss_.report(report); }
    PagingSim& sim;
    FaultServer server;
    ReadRoutes routes;
    Events& events;
    std::deque<Prefetcher::Stream> streams;  // handed to it, not adopted yet
    bool running = false;
  };
  // Sets a flag for as long as one of the pager's threads runs.
  class Running {
   public:
    explicit Running(bool& flag) : flag_(flag) { flag_ = true; }
    ~Running() { flag_ = false; }

   private:
    bool& flag_;
  };

  PagerState& pager() override { return *state_; }
  void preempt() override;
  bool evictor_runs() const override { return in_evictor_; }
  std::string fault_of_copies(PageNumber page, uint32_t version, const std::byte* bytes) override;
  bool may_be_poisoned(PageNumber page) override { return lost_pages_.contains(page.value); }

  // --- turns of threads
  void guest_turn();
  void fault_turn(Shard& shard);
  void evict_turn();
  void prefetch_turn();
  void pool_turn();
  void any_turn();
  void deliver_event(Shard& shard);
  void repeat_old_event();
  void discard_some();
  void pass_time();

  // --- what happens to donors
  struct Failure {
    enum class Kind : uint8_t { kKill, kHang, kPartition, kCutOne, kCutAll, kSlow, kLie, kFull, kDamage, kKinds };
    Kind kind;
    Machine* machine;
    int64_t ends_ns;  // INT64_MAX: never, or it is over at once
  };
  void disturb();
  void begin_failure();
  void fail(Failure::Kind kind, Machine& machine, int64_t for_ns);
  void slow_another(Machine& liar, int64_t ends_ns);
  void heal(const Failure& failure);
  void heal_all();
  void change_pool();
  void tell(const std::string& what);
  Machine& any_machine();

  // --- the checks
  // All placed extents have all the copies that protection asks for, at donors that really have them.
  bool all_protected() const;
  bool all_drained() const;
  bool has_what_it_had(size_t donor) const;
  void audit(ExtentNumber extent);
  void on_loss(const LossReport& report);
  void check_end();
  void note_new_donors();
  std::string url_of(size_t donor) const { return pool_->url(donor).printable(); }

  const World world_;
  std::mt19937_64 network_random_;
  Network network_;
  std::vector<PageTable::Word> words_;
  std::unique_ptr<DonorPool> pool_;
  std::unique_ptr<PagerState> state_;
  std::atomic<bool> stop_{false};
  LossLatch loss_;
  std::unique_ptr<CopyKeeper> keeper_;
  std::unique_ptr<PrefetchRoutes> prefetch_;
  std::deque<Shard> shards_;
  std::deque<PrefetchWindow> windows_;
  std::vector<Fault> old_events_;
  bool in_evictor_ = false, in_prefetcher_ = false, in_pool_ = false;
  static constexpr int kMaxDepth = 2;  // of preemptions within preemptions
  int depth_ = 0;

  struct Known {  // of each donor number
    Machine* machine;
    uint64_t generation;
  };
  std::vector<Known> known_;
  std::vector<Failure> failures_;
  bool calm_ = false;                                      // no more failures
  std::set<std::pair<const Machine*, uint64_t>> damaged_;  // pages
  int64_t next_failure_ns_ = 0, next_change_ns_ = 0;
  uint64_t healed_at_step_ = 0;
  int64_t resent_until_ns_ = 0;
  std::vector<LossReport> losses_;
  std::set<uint64_t> lost_pages_;
  std::deque<std::string> story_;
  Figures figures_;
  const int64_t start_ns_;
};

}  // namespace hecaton::sim
