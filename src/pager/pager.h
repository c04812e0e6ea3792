// The pager of one region: its threads around the shared state, and the connections to the donors.
//
//   fault threads    uffd events and demand reads           FaultServer, one for each shard
//   prefetch thread  windows ahead of the guest             PrefetchWorker
//   evict thread     write-back and freeing of memory       Evictor
//
// create() connects to the donors and prepares the memory; attach() starts to serve faults; stop() ends the threads.
// After a loss (a donor is gone, a page came back wrong) it serves nothing more: whoever faults sleeps, and on_loss was
// called once, from one of the threads.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "pager/pager_state.h"
#include "store/compression_choice.h"
#include "store/donor_pool.h"

namespace hecaton {

struct PagerConfig {
  // What outlives this pager (StateMemory): that of one before, which died, is taken over. -1: nothing outlives it.
  int state_fd = -1;
  std::string name;               // of the VM
  uint64_t region_bytes = 0;      // a multiple of the page size
  uint64_t local_bytes = 0;       // how much of it may be resident; at least kMinimumLocalBytes
  uint64_t prefetch_pages = 256;  // the largest window; 0: off
  bool prefetch_adaptive = true;
  Compression compression = Compression::kAuto;
  bool seal = false;  // encrypt and authenticate every page before it leaves
  std::vector<NodeUrl> nodes;
  bool insecure = false;
  Credentials credentials = {};
  // Nothing: a mirror if the donors have room for two copies, else what is left of protection.
  std::optional<Protection> protection = Protection::kNone;
  std::optional<NodeUrl> local_disk;  // a donor that keeps pages on this machine's disk, for protection's sake
  uint64_t repair_bytes_per_second = 256_MiB;
  OnLoss on_lost_memory = OnLoss::kStop;              // poison only if the kernel can: UffdFeatures::poison()
  std::function<void(const std::string&)> on_notice;  // what users should know of. Any thread
  unsigned shards = 1;                                // fault threads; fewer if the region is small: see Stripes
  std::function<void(const LossReport&)> on_loss;     // must not return to the guest: end it

  static constexpr uint64_t kMinimumLocalBytes = 1024 * 1024;
};

// Figures of a running pager, as `--report` and `status --json` show them.
struct PagerStats {
  uint64_t guest_ram_bytes, local_limit_bytes, resident_bytes, resident_peak_bytes, remote_bytes;
  uint64_t faults, faults_zero, faults_remote, faults_minor, faults_protect, faults_late, faults_stalled;
  uint64_t rdma_read_pages;  // without the donors' help; part of those that came back
  uint64_t prefetched_pages, prefetch_used_pages, prefetch_late_faults, prefetch_pauses;
  bool prefetch_paused;  // now, at some shard: what was fetched ahead went to waste
  uint64_t evicted_pages, written_back_pages, zero_pages, discarded_pages;
  uint64_t compressed_pages, wire_bytes_written;  // of what was written back; headers not counted
  bool compressing;                               // now
  bool sealed;
  uint64_t bad_seals;  // answers of donors that were not what had been sealed
  uint64_t taken_back_pages, refetched_pages, lost_pages;
  uint64_t repaired_pages, hedged_reads, failed_over_reads;  // see PagerCounters
  uint64_t exposed_bytes;                                    // in extents with fewer copies than protection asks for
  uint64_t reprotected_bytes;                                // copied to bring protection back
  std::string protection;
  uint64_t fault_us_p50, fault_us_p90, fault_us_p99, fault_us_max;
  double table_bytes_per_page;
  uint64_t threads, connections, shards;
  uint64_t pager_restarts;
  struct Node {
    std::string url, state;
    uint64_t bytes;  // placed there, in whole extents
  };
  std::vector<Node> nodes;
};

// As a JSON object: `mode` and `accel` are the caller's to know.
std::string stats_json(const PagerStats& stats, const std::string& mode, const std::string& accel);

class Pager {
 public:
  // `memfd`: the region, region_bytes long. On error `problem` says it in words for the user.
  static Result<std::unique_ptr<Pager>> create(PagerConfig config, int memfd, std::string* problem);
  ~Pager();

  // Which shard serves what.
  Stripes stripes() const;
  // Serves the faults of a process that has the region mapped at `base`, each stripe registered with the userfaultfd of
  // its shard: there are as many as shards. Once.
  Result<void> attach(std::vector<Userfaultfd> uffds, RemoteAddress base, UffdFeatures features);
  void stop();

  // --- the pool of a running pager; see DonorPool. On error `problem` is for the user
  Result<void> add_donor(const NodeUrl& url, std::string* problem);
  Result<void> drain_donor(const NodeUrl& url, std::string* problem);
  Result<void> remove_donor(const NodeUrl& url, bool force, std::string* problem);

  PagerStats stats() const;
  // Wakes every thread, and tells whether each has gone round since the last call, or memory is lost. True before
  // attach(). One thread.
  bool goes_round();
  // Of the fault that was served last; only while attached.
  const FaultTrace& last_demand() const;
  // The region is needed no more, at any donor. After stop().
  void close_region();
  // How often a pager of this VM was started before this one.
  uint64_t predecessors() const;

 private:
  class Impl;
  explicit Pager(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hecaton
