// The donors of one VM: connecting to them, and which of them holds what.
//
// Three connections to each donor, one for each kind of page traffic, so that a demand read never queues behind
// prefetch or write-back. Each connection belongs to the thread that does that kind; the placement table is shared.
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
};

class DonorPool {
 public:
  // Connects all, and reserves the whole region over them in proportion to what each has free. On error `problem`
  // names the donor and says what to do.
  static Result<std::unique_ptr<DonorPool>> open(const PoolConfig& config, std::string* problem);

  size_t donors() const { return members_.size(); }
  const NodeUrl& url(size_t donor) const { return members_[donor].url; }
  DonorClient& demand(size_t donor) { return *members_[donor].demand; }
  DonorClient& prefetch(size_t donor) { return *members_[donor].prefetch; }
  DonorClient& write_back(size_t donor) { return *members_[donor].write_back; }
  PlacementTable& placement() { return *placement_; }
  size_t connections() const { return members_.size() * 3; }
  // Pages that were read over RDMA without a donor's help. Any thread.
  uint64_t direct_pages() const;

 private:
  struct Member {
    NodeUrl url;
    std::unique_ptr<DonorClient> demand, prefetch, write_back;
  };
  Result<void> connect_all(const PoolConfig& config, std::string* problem);
  bool is_one_new_donor(const Member& member, std::string* problem) const;
  Result<void> reserve(const PoolConfig& config, std::string* problem);

  std::vector<Member> members_;
  std::unique_ptr<PlacementTable> placement_;
  uint64_t instance_ = 0;
};

}  // namespace hecaton
