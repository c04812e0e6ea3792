// The donors of one VM: connecting to them, and which of them holds what.
//
// Connections of its own to each donor for each kind of page traffic, so that a demand read never queues behind
// prefetch or write-back; and for demand reads one for each shard, so that fault threads do not share one. Each
// connection belongs to one thread; the placement table is shared.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "placement/placement_table.h"
#include "store/donor_client.h"
#include "wire/node_url.h"

namespace hecaton {

struct PoolConfig {
  std::vector<NodeUrl> nodes;  // at least one
  std::string vm_name;
  uint64_t region_bytes = 0;
  bool insecure = false;  // off loopback there is no encryption yet; the user has said that it may be so
  int64_t connect_ms = 5000;
  unsigned shards = 1;  // fault threads
};

class DonorPool {
 public:
  // Connects all, and reserves the whole region over them in proportion to what each has free. On error `problem`
  // names the donor and says what to do.
  static Result<std::unique_ptr<DonorPool>> open(const PoolConfig& config, std::string* problem);

  size_t donors() const { return members_.size(); }
  const NodeUrl& url(size_t donor) const { return members_[donor].url; }
  DonorClient& demand(unsigned shard, size_t donor) { return *members_[donor].demand[shard]; }
  DonorClient& prefetch(size_t donor) { return *members_[donor].prefetch; }
  DonorClient& write_back(size_t donor) { return *members_[donor].write_back; }
  PlacementTable& placement() { return *placement_; }
  size_t connections() const { return members_.size() * (shards_ + 2); }

 private:
  struct Member {
    NodeUrl url;
    std::vector<std::unique_ptr<DonorClient>> demand;  // of each shard
    std::unique_ptr<DonorClient> prefetch, write_back;

    std::vector<DonorClient*> links() const;
  };
  explicit DonorPool(unsigned shards) : shards_(shards) {}
  Result<void> connect_all(const PoolConfig& config, std::string* problem);
  Result<void> connect_to(const NodeUrl& url, const PoolConfig& config, Member* member, std::string* problem);
  bool is_one_new_donor(const Member& member, std::string* problem) const;
  Result<void> reserve(const PoolConfig& config, std::string* problem);

  const unsigned shards_;
  std::vector<Member> members_;
  std::unique_ptr<PlacementTable> placement_;
  uint64_t instance_ = 0;
};

}  // namespace hecaton
