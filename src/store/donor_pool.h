// The donors of one VM: connecting to them, and which of them holds what.
//
// Three kinds of connection to each donor, one for each kind of page traffic, so that a demand read never queues behind
// prefetch or write-back; of the demand connections one for each shard, so that no two fault threads share one. Each
// belongs to the thread that uses it, and so do the buffers of its kind; the placement table is shared. Of a pool of
// more than `most_links` donors, not all prefetch and write-back connections are open at once: see LinkSet.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "placement/placement_table.h"
#include "store/donor_client.h"
#include "store/link_set.h"
#include "wire/node_url.h"

namespace hecaton {

struct PoolConfig {
  std::vector<NodeUrl> nodes;  // at least one
  std::string vm_name;
  uint64_t region_bytes = 0;
  bool insecure = false;  // off loopback there is no encryption yet; the user has said that it may be so
  int64_t connect_ms = 5000;
  unsigned shards = 1;       // fault threads
  size_t most_links = 1024;  // prefetch and write-back connections, of each kind
};

class DonorPool {
 public:
  // Connects all, and reserves the whole region over them in proportion to what each has free. On error `problem`
  // names the donor and says what to do.
  static Result<std::unique_ptr<DonorPool>> open(const PoolConfig& config, std::string* problem);

  size_t donors() const { return members_.size(); }
  const NodeUrl& url(size_t donor) const { return members_[donor].url; }
  DonorClient& demand(unsigned shard, size_t donor) { return *members_[donor].demand[shard]; }
  Link& prefetch(size_t donor) { return (*prefetch_)[donor]; }
  Link& write_back(size_t donor) { return (*write_back_)[donor]; }
  // Whoever waits for their answers: see LinkSet::watch.
  Result<void> watch_prefetch(const Poller& poller) { return prefetch_->watch(poller); }
  Result<void> watch_write_back(const Poller& poller) { return write_back_->watch(poller); }
  PlacementTable& placement() { return *placement_; }
  size_t connections() const {
    return members_.size() * demand_buffers_.size() + prefetch_->open_links() + write_back_->open_links();
  }
  // Pages that were read over RDMA without a donor's help. Any thread.
  uint64_t direct_pages() const { return direct_pages_; }

 private:
  // The largest answer to a demand read or a write is far smaller; room for several saves system calls.
  static constexpr size_t kSmallFrames = 64 * 1024;
  // Demand reads of a shard in flight at most: that many connections can have a part of an answer.
  static constexpr size_t kMostDemandReads = 256;

  struct Member {
    NodeUrl url;
    uint64_t extents = 0;                              // its share
    std::vector<std::unique_ptr<DonorClient>> demand;  // of each shard
  };
  explicit DonorPool(const PoolConfig& config);
  Result<void> connect_all(const PoolConfig& config, std::string* problem);
  bool is_new_donor(const Member& member, std::string* problem);
  Result<void> reserve(const PoolConfig& config, std::string* problem);
  Result<void> open_more_demand(std::string* problem);
  Result<void> open_links(const PoolConfig& config, std::string* problem);
  Result<std::unique_ptr<DonorClient>> connect(const NodeUrl& url, wire::Role role, LinkBuffers& buffers,
                                               std::string* problem) const;
  Result<void> open_region(DonorClient& client, const Member& member, std::string* problem) const;
  Result<std::unique_ptr<DonorClient>> open_link(size_t donor, wire::Role role, LinkBuffers& buffers,
                                                 std::string* problem) const;

  const uint64_t instance_;
  const int64_t connect_ms_;
  wire::OpenRegion region_;                  // the same words to every donor, but for what it reserves
  std::vector<LinkBuffers> demand_buffers_;  // of each shard
  LinkBuffers prefetch_buffers_{wire::kHeaderBytes + wire::kMaxBodyBytes};
  LinkBuffers write_back_buffers_{kSmallFrames};
  mutable std::atomic<uint64_t> direct_pages_{0};  // outlives the clients that count in it
  std::vector<Member> members_;
  std::unordered_map<uint64_t, size_t> by_instance_;  // members; while connecting
  std::unique_ptr<LinkSet> prefetch_, write_back_;
  std::unique_ptr<PlacementTable> placement_;
};

}  // namespace hecaton
