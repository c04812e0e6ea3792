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
  std::string name;               // of the VM
  uint64_t region_bytes = 0;      // a multiple of the page size
  uint64_t local_bytes = 0;       // how much of it may be resident; at least kMinimumLocalBytes
  uint64_t prefetch_pages = 256;  // the largest window; 0: off
  bool prefetch_adaptive = true;
  Compression compression = Compression::kAuto;
  std::vector<NodeUrl> nodes;
  bool insecure = false;
  unsigned shards = 1;                             // fault threads; fewer if the region is small: see Stripes
  std::function<void(const LossReport&)> on_loss;  // must not return to the guest: end it

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
  uint64_t taken_back_pages, refetched_pages, lost_pages;
  uint64_t fault_us_p50, fault_us_p90, fault_us_p99, fault_us_max;
  double table_bytes_per_page;
  uint64_t threads, connections, shards;
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

  PagerStats stats() const;
  // Of the fault that was served last; only while attached.
  const FaultTrace& last_demand() const;

 private:
  class Impl;
  explicit Pager(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hecaton
