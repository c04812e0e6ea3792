// A model of everything around the pager's logic, for tests: guest and kernel (GuestModel), and a donor that never
// fails, all in one thread and driven by a seed. The real FaultServer (one for each shard), Evictor and PrefetchWorker
// run on it; inside each kernel call of one of them, the guest and the others may run. Donors that fail, and the code
// that deals with it, are simulated by tests/sim/paging.
//
// The pager can be made to die before and after each of its calls to kernel and network: its objects are gone then,
// while the page words, the memory, the userfaultfds' unread events and the donor stay. Another one recovers and goes
// on.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "pager/evictor.h"
#include "pager/fault_server.h"
#include "pager/guest_model.h"
#include "pager/prefetch_worker.h"
#include "pager/recovery.h"

namespace hecaton {

class PagingModel final : public GuestModel, public FaultBackend, public EvictionBackend, public PrefetchBackend {
 public:
  struct Options {
    uint64_t seed = 1;
    uint64_t pages = 600;
    uint64_t budget = 128;
    size_t processors = 4;
    bool protected_map = true;  // false: a kernel before 6.4
    bool discards = true;
    Compression compression = Compression::kOff;
    bool seal = false;
    double damage = 0;  // share of demand replies and written pages that are damaged on the way
    unsigned shards = 1;
    uint64_t stripe_pages = 32;  // a power of two
    uint64_t die_at = 0;         // the pager dies at this point of its life, counted from 1; 0: not
    double die_at_random = 0;    // share of points at which it dies
    bool fence = true;           // false: what a dead pager has sent may reach the donor late
  };
  explicit PagingModel(const Options& options);

  // One random step of somebody.
  void step();
  // Lets everything come to rest, the guest apart: nobody may be left waiting. (An eviction would wake them by chance.)
  void come_to_rest();
  // Comes to rest and reads every page back.
  void settle_and_verify();
  // The donor forgets a page, or answers with an older version of it from now on. False: it does not have two.
  bool forget_a_remote_page();
  bool roll_back_a_remote_page();
  // A donor that lies: it answers with other bytes than it was given, and says that they are of the version that is
  // asked for, with a checksum to match. About half of the remote pages, by stretches of 16, so that readers come by
  // what is true and fetch ahead what is not. Of how many pages.
  enum class Lie : uint8_t { kOlderBytes, kBitFlipped, kAnotherPage };
  uint64_t lie_about_remote_pages(Lie lie);
  // Whether a donor ever got bytes that hold what the guest wrote.
  bool donor_saw_the_guests_words() const { return donor_saw_words_; }

  // Points so far at which the pager could have died, and how often it did.
  uint64_t points() const { return points_; }
  uint64_t deaths() const { return deaths_; }

  bool lost() const { return !loss_.empty(); }
  const std::string& loss() const { return loss_; }
  PagerState& state() { return logic_->state; }
  // How often a shard served something while another was within a kernel call.
  uint64_t shards_overlapped() const { return shards_overlapped_; }
  uint64_t streams_handed() const { return streams_handed_; }
  const std::set<int64_t>& strides_prefetched() const { return strides_prefetched_; }

  // The backends: the network
  bool start_read(PageNumber page, uint32_t slot, bool again) override;
  bool wait_for_copy(PageNumber, uint32_t) override { return false; }
  void prefetch(const PrefetchWindow& window) override { windows_.push_back(window); }
  void hand_stream(unsigned shard, const Prefetcher::Stream& stream) override {
    shards_[shard].streams.push_back(stream);
    ++streams_handed_;
  }
  std::string answering_donor() override { return "the-model:1"; }
  // It is woken only if it sleeps; if not, it looks for work once more before it does.
  void wake_evictor() override { evictor_asleep_ = false; }
  void report_loss(LossReport report) override { loss_ = report.reason; }
  bool prepare(ExtentNumber extent) override {
    may_die();
    placement_.place(extent);
    may_die();
    return true;
  }
  void send_write(uint64_t batch, ExtentNumber extent, std::span<const wire::PageEntry> entries,
                  std::span<const iovec> pages) override;
  void send_discard(ExtentNumber extent, std::span<const PageRun> runs) override;
  void let_others_run() override { preempt(); }
  void wake_fault_threads() override {
    for (Shard& shard : shards_) {
      shard.asleep = false;
      shard.woken = true;
    }
  }
  std::optional<size_t> donor_of(ExtentNumber) override { return 0; }
  bool send_read(uint64_t request, size_t donor, std::span<const PageNumber> pages) override;

 private:
  // The pager dies: thrown through its own code, which is never to run again.
  struct Death {};
  // Sets a flag for as long as one of the pager's threads runs.
  class Running {
   public:
    explicit Running(bool& flag) : flag_(flag) { flag_ = true; }
    ~Running() { flag_ = false; }

   private:
    bool& flag_;
  };
  struct StoredPage {
    uint32_t version = 0;
    uint64_t checksum = 0;
    std::vector<std::byte> bytes;
  };
  struct Message {
    enum class Kind { kDemandReply, kPrefetchReply, kWriteReply, kDiscard } kind;
    uint64_t id;
    std::vector<PageNumber> pages;
    std::vector<PageNumber> rejected;
    std::vector<std::pair<PageNumber, StoredPage>> stores;  // done when the donor gets to it
  };

  // What a fault thread has: its logic, what waits at its userfaultfd, and the answers on its connections.
  struct Shard {
    std::unique_ptr<FaultServer> server;
    Events& events;
    std::deque<Message> demand;
    std::deque<Prefetcher::Stream> streams;  // handed to it, not adopted yet
    bool running = false;
    bool asleep = false, woken = false;  // woken: it will not fall asleep this time
  };

  // What dies with the pager.
  struct Logic {
    explicit Logic(PagingModel& model);
    PagerState state;
    Evictor evictor;
    PrefetchWorker prefetcher;
  };
  void begin_life();
  void die_and_recover();
  template <typename Step>
  void survive(Step step);
  void may_die() override;
  void keep_words();
  void mix_words();
  void do_step();
  void reach_rest();
  void apply(const Message& message);
  bool writes_may_tear() const override { return in_prefetcher_ && !in_evictor_ && mortal_; }
  bool recovering() const override { return recovering_; }
  bool old_bytes_may_return() const override { return deaths_ > 0; }
  Shard& shard_of(PageNumber page) { return shards_[state().stripes.shard_of(page)]; }
  Shard& any_shard() { return shards_[random(shards_.size())]; }
  void count_overlap(const Shard& shard);
  void deliver_event(Shard& shard);
  void discard_for_guest(Shard& shard);
  void repeat_old_event();
  void deliver(std::deque<Message>& queue);
  void retry(Shard& shard);
  void evict();
  void start_prefetch();
  void discard_some();
  PagerState& pager() override { return logic_->state; }
  void preempt() override;
  bool evictor_runs() const override { return in_evictor_; }
  std::string fault_of_copies(PageNumber page, uint32_t version, const std::byte* bytes) override;
  std::vector<std::byte> answer(const std::vector<PageNumber>& pages);
  std::optional<std::vector<std::byte>> lie_for(uint64_t page, Lie lie);
  bool stands_for(std::span<const std::byte> stored, PageNumber page, uint32_t version, const std::byte* bytes);
  void look_for_words(std::span<const std::byte> stored);
  void take_writes(std::span<const wire::PageEntry> entries, std::span<const iovec> pages, Message* reply);

  const Options options_;
  std::vector<PageTable::Word> words_;
  std::vector<PlacementTable::Word> copies_;
  PlacementTable placement_;
  std::vector<SealRecord> seal_memory_;  // a SealState
  std::optional<SealState> seal_state_;
  std::optional<PageSeal> seal_;  // the model's own
  PagerCounters counters_{};
  std::deque<Shard> shards_;
  std::unique_ptr<Logic> logic_;
  std::vector<Fault> old_events_;
  std::deque<PrefetchWindow> windows_;
  std::set<int64_t> strides_prefetched_;
  std::deque<Message> prefetch_, write_back_;
  std::map<uint64_t, StoredPage> donor_;
  std::map<uint64_t, StoredPage> donor_before_;  // one version back
  std::deque<Message> late_;                     // sent by pagers that died, without a fence
  std::vector<uint32_t> words_before_;           // as they were after the pager's last call
  uint64_t points_ = 0, deaths_ = 0;
  bool mortal_ = true, recovering_ = false;
  bool in_evictor_ = false, in_prefetcher_ = false, evictor_asleep_ = false;
  bool donor_saw_words_ = false;
  int depth_ = 0;
  uint64_t shards_overlapped_ = 0, streams_handed_ = 0;
  std::string loss_;
};

}  // namespace hecaton
