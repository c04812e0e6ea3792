// A model of everything around the pager's logic, for tests: guest processors, the kernel's view of the guest's memory,
// and a donor, all in one thread and driven by a seed. The real FaultServer (one for each shard), Evictor and
// PrefetchWorker run on it.
//
// The model knows every byte that the guest wrote, and checks the design's invariants as it goes. Preemption is
// modelled where it hurts: inside each kernel call of one of the pager's threads, the guest and the other threads may
// run.
#pragma once

#include <deque>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "pager/evictor.h"
#include "pager/fault_server.h"
#include "pager/prefetch_worker.h"

namespace hecaton {

class PagingModel final : public GuestMemory, public FaultBackend, public EvictionBackend, public PrefetchBackend {
 public:
  struct Options {
    uint64_t seed = 1;
    uint64_t pages = 600;
    uint64_t budget = 128;
    size_t processors = 4;
    bool protected_map = true;  // false: a kernel before 6.4
    bool discards = true;
    Compression compression = Compression::kOff;
    double damage = 0;  // share of demand replies and written pages that are damaged on the way
    unsigned shards = 1;
    uint64_t stripe_pages = 32;  // a power of two
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

  const std::string& breach() const { return breach_; }
  bool lost() const { return !loss_.empty(); }
  const std::string& loss() const { return loss_; }
  PagerState& state() { return state_; }
  uint64_t accesses() const { return accesses_; }
  // How often a shard served something while another was within a kernel call.
  uint64_t shards_overlapped() const { return shards_overlapped_; }
  uint64_t streams_handed() const { return streams_handed_; }
  const std::set<int64_t>& strides_prefetched() const { return strides_prefetched_; }

  // GuestMemory: the kernel
  InstallOutcome zero_page(PageNumber page) override;
  InstallOutcome copy(PageRun run, const std::byte* bytes, bool write_protected, bool wake, uint64_t* done) override;
  InstallOutcome map(PageNumber page, bool write_protected) override;
  InstallOutcome protect(PageRun run) override;
  InstallOutcome unprotect(PageNumber page) override;
  InstallOutcome wake(PageRun run) override;
  Result<void> punch(PageRun run) override;
  bool is_hole(PageNumber page) override { return !kernel_[page.value].present; }
  std::byte* bytes(PageNumber page) override {
    if (in_evictor_) preempt();          // the guest may write to a page while others of its batch are read
    kernel_[page.value].present = true;  // an access through the pager's view makes a page where there is none
    return raw(page);
  }
  bool can_map_protected() const override { return options_.protected_map; }

  // The backends: the network
  bool start_read(PageNumber page, uint32_t slot) override;
  void prefetch(const PrefetchWindow& window) override { windows_.push_back(window); }
  void hand_stream(unsigned shard, const Prefetcher::Stream& stream) override {
    shards_[shard].streams.push_back(stream);
    ++streams_handed_;
  }
  void wake_evictor() override {}
  void report_loss(LossReport report) override { loss_ = report.reason; }
  void send_write(uint64_t batch, ExtentNumber extent, std::span<const wire::PageEntry> entries,
                  std::span<const iovec> pages) override;
  void send_discard(ExtentNumber extent, std::span<const PageRun> runs) override;
  void let_others_run() override { preempt(); }
  void wake_fault_threads() override {}
  size_t donor_of(ExtentNumber) override { return 0; }
  bool send_read(uint64_t request, std::span<const PageNumber> pages) override;

 private:
  // Sets a flag for as long as one of the pager's threads runs.
  class Running {
   public:
    explicit Running(bool& flag) : flag_(flag) { flag_ = true; }
    ~Running() { flag_ = false; }

   private:
    bool& flag_;
  };
  struct KernelPage {
    bool present = false;     // in the memfd
    bool mapped = false;      // in the guest
    bool protected_ = false;  // mapped, and a write raises an event
  };
  struct Processor {
    bool waiting = false;
    PageNumber page;
    bool write = false;
    uint64_t scan = 0;   // pages left of a scan
    int64_t stride = 1;  // of the scan
  };
  struct StoredPage {
    uint32_t version = 0;
    uint64_t checksum = 0;
    std::vector<std::byte> bytes;
  };
  struct Message {
    enum class Kind { kDemandReply, kPrefetchReply, kWriteReply } kind;
    uint64_t id;
    std::vector<PageNumber> pages;
    std::vector<PageNumber> rejected;
  };

  // What a fault thread has: its logic, what waits at its userfaultfd, and the answers on its connections.
  struct Shard {
    FaultServer server;
    std::deque<Fault> events;
    std::deque<PageRun> removals;
    std::deque<Message> demand;
    std::deque<Prefetcher::Stream> streams;  // handed to it, not adopted yet
    bool running = false;
  };

  Shard& shard_of(PageNumber page) { return shards_[state_.stripes.shard_of(page)]; }
  Shard& any_shard() { return shards_[random(shards_.size())]; }
  // The kernel wants an event to be read before it changes this page.
  bool must_read_first(PageNumber page) { return !shard_of(page).removals.empty(); }
  void count_overlap(const Shard& shard);
  std::byte* raw(PageNumber page) { return memory_.data() + page.value * kPageBytes; }
  void run_processor(Processor& processor);
  void begin_scan(Processor& processor);
  void access(Processor& processor);
  void raise(PageNumber page, Fault::Kind kind, bool write);
  void deliver_event(Shard& shard);
  void discard_for_guest(Shard& shard);
  void repeat_old_event();
  void deliver(std::deque<Message>& queue);
  void evict();
  void start_prefetch();
  void discard_some();
  void preempt();
  std::vector<std::byte> answer(const std::vector<PageNumber>& pages);
  void take_writes(std::span<const wire::PageEntry> entries, std::span<const iovec> pages, Message* reply);
  uint64_t word_of(PageNumber page) const;
  void check_budget();
  void check_punch(PageNumber page);
  void breach(const std::string& what, PageNumber page);
  uint64_t random(uint64_t below) { return random_() % below; }

  const Options options_;
  std::mt19937_64 random_;
  std::vector<std::byte> memory_;
  std::vector<KernelPage> kernel_;
  std::vector<uint64_t> truth_;  // what the guest wrote last to each page
  std::vector<bool> forgiven_;   // discarded: zeros or the old bytes are both right
  std::vector<PageTable::Word> words_;
  PagerState state_;
  std::deque<Shard> shards_;
  Evictor evictor_;
  PrefetchWorker prefetcher_;
  std::vector<Processor> processors_;
  std::vector<Fault> old_events_;
  std::deque<PrefetchWindow> windows_;
  std::set<int64_t> strides_prefetched_;
  std::deque<Message> prefetch_, write_back_;
  std::map<uint64_t, StoredPage> donor_;
  std::map<uint64_t, StoredPage> donor_before_;  // one version back
  bool in_evictor_ = false, in_prefetcher_ = false;
  int discarding_ = 0;  // shards
  int depth_ = 0;
  uint64_t accesses_ = 0, shards_overlapped_ = 0, streams_handed_ = 0;
  uint64_t next_value_ = 1;
  std::string breach_, loss_;
};

}  // namespace hecaton
