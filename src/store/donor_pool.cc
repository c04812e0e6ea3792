#include "store/donor_pool.h"

#include <fmt/format.h>

#include "base/random.h"

namespace hecaton {
namespace {

std::string advice_for(const Error& error, const NodeUrl& url) {
  switch (error.code) {
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout:
      return fmt::format("is hecatond running there? Start it with: hecatond --size SIZE --listen {}", url.printable());
    case ErrorCode::kProtocol:
    case ErrorCode::kClosed:
      return "is that port really hecatond's?";
    case ErrorCode::kUnsupported:
      return "use the same version of Hecaton on both machines";
    case ErrorCode::kBusy:
      return "give this VM another --name, or end the one that has it";
    case ErrorCode::kSystem:
      return "that is a limit of this machine: see ulimit -a";
    case ErrorCode::kFull:
      return "start it with a larger --size, add another --node, or make the VM smaller (-m)";
    default:
      return "see its log";
  }
}

std::string explain(const NodeUrl& url, const Error& error, const std::string& detail) {
  std::string what = detail.empty() ? error.describe() : detail;
  return fmt::format("donor {}: {}; {}", url.printable(), what, advice_for(error, url));
}

Result<std::unique_ptr<DonorClient>> connect(const NodeUrl& url, wire::Role role, uint64_t instance, Deadline by,
                                             std::string* detail) {
  std::unique_ptr<Stream> stream = HEC_TRY(connect_tcp(url, by));
  return std::make_unique<DonorClient>(HEC_TRY(DonorClient::handshake(std::move(stream), role, instance, by, detail)));
}

}  // namespace

Result<std::unique_ptr<DonorPool>> DonorPool::open(const PoolConfig& config, std::string* problem) {
  HEC_CHECK(!config.nodes.empty());
  std::unique_ptr<DonorPool> pool(new DonorPool(config.shards));
  pool->instance_ = random_id();
  HEC_TRY(pool->connect_all(config, problem));
  HEC_TRY(pool->reserve(config, problem));
  return pool;
}

Result<void> DonorPool::connect_all(const PoolConfig& config, std::string* problem) {
  for (const NodeUrl& url : config.nodes) {
    if (!url.is_loopback() && !config.insecure) {
      *problem = fmt::format(
          "donor {} is another machine, and this version does not encrypt page traffic yet: anyone on that network "
          "could "
          "read or change the VM's memory. On a network that you trust, say --insecure here and at hecatond",
          url.printable());
      return Error{ErrorCode::kPermission, 0, "a donor off loopback without --insecure"};
    }
    Member member;
    HEC_TRY(connect_to(url, config, &member, problem));
    if (!is_one_new_donor(member, problem)) return Error{ErrorCode::kInvalidArgument, 0, "a donor is named twice"};
    members_.push_back(std::move(member));
  }
  return {};
}

Result<void> DonorPool::connect_to(const NodeUrl& url, const PoolConfig& config, Member* member, std::string* problem) {
  auto open = [&](wire::Role role) -> Result<std::unique_ptr<DonorClient>> {
    std::string detail;
    auto client = connect(url, role, instance_, Deadline::after_ms(config.connect_ms), &detail);
    if (!client.ok()) *problem = explain(url, client.error(), detail);
    return client;
  };
  member->url = url;
  for (unsigned shard = 0; shard < shards_; ++shard) member->demand.push_back(HEC_TRY(open(wire::Role::kDemand)));
  member->prefetch = HEC_TRY(open(wire::Role::kPrefetch));
  member->write_back = HEC_TRY(open(wire::Role::kWriteBack));
  return {};
}

std::vector<DonorClient*> DonorPool::Member::links() const {
  std::vector<DonorClient*> all{prefetch.get(), write_back.get()};
  for (const auto& link : demand) all.push_back(link.get());
  return all;
}

// Two names of one donor would count its memory twice; a donor that is started anew between two connections holds
// nothing.
bool DonorPool::is_one_new_donor(const Member& member, std::string* problem) const {
  const uint64_t instance = member.demand.front()->donor().donor_instance;
  for (const DonorClient* link : member.links()) {
    if (link->donor().donor_instance == instance) continue;
    *problem = fmt::format("donor {} was started anew just now; try again", member.url.printable());
    return false;
  }
  for (const Member& other : members_) {
    if (other.demand.front()->donor().donor_instance != instance) continue;
    *problem = fmt::format("donors {} and {} are the same hecatond; name it once", other.url.printable(),
                           member.url.printable());
    return false;
  }
  return true;
}

Result<void> DonorPool::reserve(const PoolConfig& config, std::string* problem) {
  const uint64_t extents = extents_in(pages_in(config.region_bytes));
  std::vector<uint64_t> free_extents;
  uint64_t free_bytes = 0;
  for (Member& member : members_) {
    const uint64_t lends = member.demand.front()->donor().free_bytes;
    free_extents.push_back(lends / kExtentBytes);
    free_bytes += lends;
  }
  auto shares = split_by_capacity(extents, free_extents);
  if (!shares) {
    *problem = fmt::format(
        "{} {} free, and the VM's memory of {} must fit; start hecatond with a larger --size, add another --node, or "
        "make "
        "the VM smaller (-m)",
        members_.size() == 1 ? fmt::format("donor {} has", members_[0].url.printable())
                             : fmt::format("the {} donors together have", members_.size()),
        free_bytes == 0 ? "nothing" : format_size(free_bytes), format_size(config.region_bytes));
    return Error{ErrorCode::kFull, 0, "the donors have too little memory free"};
  }
  wire::OpenRegion open{config.region_bytes, 0, {}, config.vm_name};
  fill_random(open.secret);
  std::vector<DonorShare> donor_shares;
  for (size_t i = 0; i < members_.size(); ++i) {
    open.reserve_bytes = (*shares)[i] * kExtentBytes;
    donor_shares.push_back({donor_id(members_[i].url.printable()), (*shares)[i]});
    for (DonorClient* link : members_[i].links()) {
      std::string detail;
      Result<void> opened = link->open_region(open, Deadline::after_ms(config.connect_ms), &detail);
      if (!opened.ok()) {
        *problem = explain(members_[i].url, opened.error(), detail);
        return opened.error();
      }
    }
  }
  placement_ = std::make_unique<PlacementTable>(extents, std::move(donor_shares));
  return {};
}

}  // namespace hecaton
