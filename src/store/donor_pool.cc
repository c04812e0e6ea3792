#include "store/donor_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "base/random.h"
#include "transport/rdma.h"

namespace hecaton {
namespace {

std::string no_rdma_advice() {
  std::optional<RdmaProblem> problem = rdma_problem();
  return fmt::format("{}; or name the donor without rdma://, to reach it over TCP",
                     problem ? problem->remedy : "'rdma link' lists the devices, and 'ip address' their addresses");
}

std::string advice_for(const Error& error, const NodeUrl& url) {
  switch (error.code) {
    case ErrorCode::kNotFound:
      return no_rdma_advice();
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout:
      if (url.rdma) {
        return fmt::format(
            "is hecatond running there, on the address of an RDMA device? Start it with: hecatond --rdma on --size "
            "SIZE --listen {} --insecure",
            url.printable().substr(std::string_view("rdma://").size()));
      }
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

}  // namespace

DonorPool::DonorPool(const PoolConfig& config)
    : instance_(random_id()), connect_ms_(config.connect_ms), region_{config.region_bytes, 0, {}, config.vm_name} {
  fill_random(region_.secret);
  demand_buffers_.reserve(config.shards);  // connections point to them
  for (unsigned shard = 0; shard < config.shards; ++shard) {
    demand_buffers_.emplace_back(kSmallFrames);
    // Each connection can have a part of one answer.
    demand_buffers_.back().prepare(std::min(config.nodes.size(), kMostDemandReads));
  }
}

Result<std::unique_ptr<DonorPool>> DonorPool::open(const PoolConfig& config, std::string* problem) {
  HEC_CHECK(!config.nodes.empty());
  std::unique_ptr<DonorPool> pool(new DonorPool(config));
  HEC_TRY(pool->connect_all(config, problem));
  HEC_TRY(pool->reserve(config, problem));
  HEC_TRY(pool->open_more_demand(problem));
  HEC_TRY(pool->open_links(config, problem));
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
    member.url = url;
    member.demand.push_back(HEC_TRY(connect(url, wire::Role::kDemand, demand_buffers_.front(), problem)));
    if (!is_new_donor(member, problem)) return Error{ErrorCode::kInvalidArgument, 0, "a donor is named twice"};
    members_.push_back(std::move(member));
  }
  by_instance_.clear();
  return {};
}

Result<std::unique_ptr<DonorClient>> DonorPool::connect(const NodeUrl& url, wire::Role role, LinkBuffers& buffers,
                                                        std::string* problem) const {
  std::string detail;
  auto attempt = [&]() -> Result<DonorClient> {
    const Deadline by = Deadline::after_ms(connect_ms_);
    std::unique_ptr<Stream> stream = HEC_TRY(connect_to(url, by));
    return DonorClient::handshake(std::move(stream), role, instance_, buffers, by, &detail);
  };
  Result<DonorClient> client = attempt();
  if (client.ok()) {
    client->count_direct_pages_in(&direct_pages_);
    return std::make_unique<DonorClient>(std::move(client).value());
  }
  *problem = explain(url, client.error(), detail);
  return client.error();
}

// Two names of one donor would count its memory twice.
bool DonorPool::is_new_donor(const Member& member, std::string* problem) {
  auto [known, is_new] = by_instance_.emplace(member.demand.front()->donor().donor_instance, members_.size());
  if (is_new) return true;
  *problem = fmt::format("donors {} and {} are the same hecatond; name it once",
                         members_[known->second].url.printable(), member.url.printable());
  return false;
}

Result<void> DonorPool::reserve(const PoolConfig& config, std::string* problem) {
  const uint64_t extents = extents_in(pages_in(config.region_bytes));
  std::vector<uint64_t> free_extents;
  uint64_t free_bytes = 0;
  for (Member& member : members_) {
    free_extents.push_back(member.demand.front()->donor().free_bytes / kExtentBytes);
    free_bytes += member.demand.front()->donor().free_bytes;
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
  std::vector<DonorShare> donor_shares;
  for (size_t i = 0; i < members_.size(); ++i) {
    members_[i].extents = (*shares)[i];
    donor_shares.push_back({donor_id(members_[i].url.printable()), (*shares)[i]});
    HEC_TRY(open_region(*members_[i].demand.front(), members_[i], problem));
  }
  placement_ = std::make_unique<PlacementTable>(extents, std::move(donor_shares));
  return {};
}

Result<void> DonorPool::open_region(DonorClient& client, const Member& member, std::string* problem) const {
  wire::OpenRegion open = region_;
  open.reserve_bytes = member.extents * kExtentBytes;
  std::string detail;
  Result<void> opened = client.open_region(open, Deadline::after_ms(connect_ms_), &detail);
  if (!opened.ok()) *problem = explain(member.url, opened.error(), detail);
  return opened;
}

// Those of the shards after the first, which has made itself known to the donors.
Result<void> DonorPool::open_more_demand(std::string* problem) {
  for (size_t donor = 0; donor < members_.size(); ++donor) {
    for (size_t shard = 1; shard < demand_buffers_.size(); ++shard) {
      members_[donor].demand.push_back(HEC_TRY(open_link(donor, wire::Role::kDemand, demand_buffers_[shard], problem)));
    }
  }
  return {};
}

Result<void> DonorPool::open_links(const PoolConfig& config, std::string* problem) {
  for (auto [links, role, buffers] : {std::tuple(&prefetch_, wire::Role::kPrefetch, &prefetch_buffers_),
                                      std::tuple(&write_back_, wire::Role::kWriteBack, &write_back_buffers_)}) {
    auto open_one = [this, role = role, buffers = buffers](size_t donor, std::string* said) {
      return open_link(donor, role, *buffers, said);
    };
    *links = std::make_unique<LinkSet>(members_.size(), config.most_links, open_one);
    if (members_.size() <= config.most_links) HEC_TRY((*links)->open_all(problem));
  }
  return {};
}

// A donor that is started anew between two connections holds nothing.
Result<std::unique_ptr<DonorClient>> DonorPool::open_link(size_t donor, wire::Role role, LinkBuffers& buffers,
                                                          std::string* problem) const {
  const Member& member = members_[donor];
  std::unique_ptr<DonorClient> client = HEC_TRY(connect(member.url, role, buffers, problem));
  if (client->donor().donor_instance != member.demand.front()->donor().donor_instance) {
    *problem = fmt::format("donor {} was started anew just now; try again", member.url.printable());
    return Error{ErrorCode::kClosed, 0, "the donor was started anew"};
  }
  HEC_TRY(open_region(*client, member, problem));
  return client;
}

}  // namespace hecaton
