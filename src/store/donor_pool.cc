#include "store/donor_pool.h"

#include <fmt/format.h>

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

Result<std::unique_ptr<DonorClient>> connect(const NodeUrl& url, wire::Role role, uint64_t instance, Deadline by,
                                             std::string* detail) {
  std::unique_ptr<Stream> stream = HEC_TRY(connect_to(url, by));
  return std::make_unique<DonorClient>(HEC_TRY(DonorClient::handshake(std::move(stream), role, instance, by, detail)));
}

}  // namespace

Result<std::unique_ptr<DonorPool>> DonorPool::open(const PoolConfig& config, std::string* problem) {
  HEC_CHECK(!config.nodes.empty());
  auto pool = std::make_unique<DonorPool>();
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
    member.url = url;
    for (auto [role, link] :
         {std::pair(wire::Role::kDemand, &member.demand), std::pair(wire::Role::kPrefetch, &member.prefetch),
          std::pair(wire::Role::kWriteBack, &member.write_back)}) {
      std::string detail;
      Deadline by = Deadline::after_ms(config.connect_ms);
      Result<std::unique_ptr<DonorClient>> client = connect(url, role, instance_, by, &detail);
      if (!client.ok()) {
        *problem = explain(url, client.error(), detail);
        return client.error();
      }
      *link = std::move(client).value();
    }
    if (!is_one_new_donor(member, problem)) return Error{ErrorCode::kInvalidArgument, 0, "a donor is named twice"};
    members_.push_back(std::move(member));
  }
  return {};
}

// Two names of one donor would count its memory twice; a donor that is started anew between two connections holds
// nothing.
bool DonorPool::is_one_new_donor(const Member& member, std::string* problem) const {
  const uint64_t instance = member.demand->donor().donor_instance;
  if (member.prefetch->donor().donor_instance != instance || member.write_back->donor().donor_instance != instance) {
    *problem = fmt::format("donor {} was started anew just now; try again", member.url.printable());
    return false;
  }
  for (const Member& other : members_) {
    if (other.demand->donor().donor_instance != instance) continue;
    *problem = fmt::format("donors {} and {} are the same hecatond; name it once", other.url.printable(),
                           member.url.printable());
    return false;
  }
  return true;
}

uint64_t DonorPool::direct_pages() const {
  uint64_t pages = 0;
  for (const Member& member : members_) pages += member.demand->direct_pages() + member.prefetch->direct_pages();
  return pages;
}

Result<void> DonorPool::reserve(const PoolConfig& config, std::string* problem) {
  const uint64_t extents = extents_in(pages_in(config.region_bytes));
  std::vector<uint64_t> free_extents;
  uint64_t free_bytes = 0;
  for (Member& member : members_) {
    free_extents.push_back(member.demand->donor().free_bytes / kExtentBytes);
    free_bytes += member.demand->donor().free_bytes;
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
    for (DonorClient* link : {members_[i].demand.get(), members_[i].prefetch.get(), members_[i].write_back.get()}) {
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
