#include "store/donor_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "base/random.h"
#include "transport/rdma.h"

namespace hecaton {
namespace {

constexpr int64_t kCloseMs = 1000;

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
      return fmt::format("is hecatond running there? Start it with: hecatond --size SIZE --listen {}{}",
                         url.printable(), url.is_loopback() ? "" : " --token-file FILE");
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
  // These say already what to do.
  const bool whole = error.code == ErrorCode::kUntrusted || (error.code == ErrorCode::kPermission && !detail.empty());
  if (whole) return fmt::format("donor {}: {}", url.printable(), what);
  return fmt::format("donor {}: {}; {}", url.printable(), what, advice_for(error, url));
}

}  // namespace

DonorPool::DonorPool(const PoolConfig& config, size_t most_donors)
    : config_(config),
      instance_(config.identity.instance != 0 ? config.identity.instance : random_id()),
      extents_(extents_in(pages_in(config.region_bytes))),
      region_{config.region_bytes, 0, config.identity.secret, config.vm_name, config.identity.epoch},
      states_(most_donors),
      members_(new Member[most_donors]),
      own_words_(config.placement_words.empty() ? extents_ : 0),
      words_(config.placement_words.empty() ? std::span(own_words_) : config.placement_words) {
  if (config.identity.instance == 0) fill_random(region_.secret);
  demand_buffers_.reserve(config.shards);  // connections point to them
  for (unsigned shard = 0; shard < config.shards; ++shard) {
    demand_buffers_.emplace_back(kSmallFrames);
    // Each connection can have a part of one answer.
    demand_buffers_.back().prepare(std::min(config.nodes.size(), kMostDemandReads));
  }
}

Result<std::unique_ptr<DonorPool>> DonorPool::open(const PoolConfig& config, std::string* problem) {
  HEC_CHECK(!config.nodes.empty());
  const size_t most = std::min(config.nodes.size() + 1 + kMoreDonors, CopySet::kMostDonors);
  std::unique_ptr<DonorPool> pool(new DonorPool(config, most));
  HEC_CHECK(config.records.empty() || config.records.size() >= most);
  if (pool->recorded() > 0) {
    HEC_TRY(pool->take_over(problem));
  } else {
    HEC_TRY(pool->connect_all(problem));
    HEC_TRY(pool->share_out(problem));
    HEC_TRY(pool->open_first_regions(problem));
  }
  HEC_TRY(pool->open_more_demand(problem));
  HEC_TRY(pool->open_links(problem));
  return pool;
}

Result<void> DonorPool::check_may_use(const NodeUrl& url, std::string* problem) const {
  if (!config_.records.empty() && url.with_token().size() >= sizeof(MemberRecord::url)) {
    *problem = fmt::format("donor {}: name and token are too long together", url.printable());
    return Error{ErrorCode::kInvalidArgument, 0, "the donor's URL is too long"};
  }
  if (url.is_loopback() || config_.insecure || config_.credentials.cover(url)) return {};
  *problem = fmt::format(
      "donor {} is another machine, and {}: anyone on that network could read or change the VM's memory. {}, or, on a "
      "network that is yours alone, say --insecure here and at hecatond",
      url.printable(), url.rdma ? "RDMA is not encrypted" : "no token is given for it",
      url.rdma
          ? "Leave rdma:// away and give its token"
          : "Start hecatond there with --token-file FILE, and give the URL that it prints, hecaton://TOKEN@HOST:PORT");
  return Error{ErrorCode::kPermission, 0, "a donor off loopback without --insecure"};
}

Result<void> DonorPool::connect_all(std::string* problem) {
  std::vector<NodeUrl> urls = config_.nodes;
  if (config_.local_disk) urls.push_back(*config_.local_disk);
  std::unordered_map<uint64_t, size_t> by_instance;
  for (size_t i = 0; i < urls.size(); ++i) {
    HEC_TRY(check_may_use(urls[i], problem));
    Member& member = members_[i];
    member.url = urls[i];
    member.local_disk = i >= config_.nodes.size();
    member.demand.push_back(
        HEC_TRY(connect(urls[i], wire::Role::kDemand, demand_buffers_.front(), config_.connect_ms, problem)));
    member.instance = member.demand.front()->donor().donor_instance;
    // Two names of one donor would count its memory twice.
    auto [known, is_new] = by_instance.emplace(member.instance, i);
    if (is_new) continue;
    *problem = fmt::format("donors {} and {} are the same hecatond; name it once", urls[known->second].printable(),
                           urls[i].printable());
    return Error{ErrorCode::kInvalidArgument, 0, "a donor is named twice"};
  }
  return {};
}

Result<std::unique_ptr<DonorClient>> DonorPool::connect(const NodeUrl& url, wire::Role role, LinkBuffers& buffers,
                                                        int64_t connect_ms, std::string* problem) const {
  std::string detail;
  auto attempt = [&]() -> Result<DonorClient> {
    const Deadline by = Deadline::after_ms(connect_ms);
    // The donor for this machine's disk is our own, and has nothing to do with those of others.
    const bool own = config_.local_disk && url == *config_.local_disk;
    std::unique_ptr<Stream> stream = HEC_TRY(config_.connect(url, own ? Credentials() : config_.credentials, by));
    return DonorClient::handshake(std::move(stream), role, instance_, buffers, by, &detail);
  };
  Result<DonorClient> client = attempt();
  if (client.ok()) {
    client->count_direct_pages_in(&direct_pages_);
    if (role == wire::Role::kWriteBack && placement_ && placement_->wanted() > 1) {
      client->set_send_patience(kShortSendMs);
    }
    return std::make_unique<DonorClient>(std::move(client).value());
  }
  *problem = explain(url, client.error(), detail);
  return client.error();
}

// Decides on the protection and on what each donor is to hold.
Result<void> DonorPool::share_out(std::string* problem) {
  std::vector<uint64_t> free_extents;
  for (size_t i = 0; i < config_.nodes.size(); ++i) {
    free_extents.push_back(members_[i].demand.front()->donor().free_bytes / kExtentBytes);
  }
  const bool disk = config_.local_disk.has_value();
  std::vector<Protection> choices;
  if (config_.protection) {
    choices = {*config_.protection};
  } else {
    choices = {Protection::kMirror, disk ? Protection::kSpill : Protection::kNone};
    if (config_.nodes.size() < 2) choices.erase(choices.begin());
  }
  for (Protection protection : choices) {
    const size_t copies = protection == Protection::kMirror ? 2 : 1;
    auto shares = split_by_capacity(extents_, copies, free_extents);
    // A mirror of one donor and the local disk is as good as spill.
    if (!shares && protection == Protection::kMirror && disk && config_.protection) {
      shares = split_by_capacity(extents_, 1, free_extents);
    }
    if (!shares) continue;
    shares_ = *shares;
    placement_ = std::make_unique<PlacementTable>(words_, protection, states_.most());
    // The last extents must find two donors with room, not one with room for two.
    for (size_t i = 0; copies == 2 && i < shares_.size(); ++i) {
      shares_[i] = std::min({shares_[i] + shares_[i] / 16 + 2, free_extents[i], extents_});
    }
    if (disk) shares_.push_back(extents_);
    return {};
  }
  describe_shortage(free_extents, problem);
  return Error{ErrorCode::kFull, 0, "the donors have too little memory free"};
}

// What the donors hold for VMs that are gone, most likely: a restart need only wait for it.
std::string DonorPool::held_text() const {
  uint64_t bytes = 0, ms = 0;
  for (size_t i = 0; i < config_.nodes.size(); ++i) {
    Result<wire::StatReply> stat = members_[i].demand.front()->stat(Deadline::after_ms(config_.connect_ms));
    if (!stat.ok()) continue;
    bytes += stat->lingering_bytes;
    ms = std::max(ms, stat->lingering_ms);
  }
  if (bytes == 0) return {};
  return fmt::format(" ({} more are held for up to {} s for VMs that lost their connection and may come back)",
                     format_size(bytes), (ms + 999) / 1000);
}

// A connection that ends with answers unread may take its last request with it: so the answers are awaited.
void DonorPool::close_regions() {
  const Deadline by = Deadline::after_ms(kCloseMs);
  std::vector<DonorClient*> asked;
  for (size_t i = 0, all = placement_ ? donors() : 0; i < all; ++i) {
    DonorClient* client = members_[i].demand.empty() ? nullptr : members_[i].demand.front().get();
    if (client && client->has_region() && client->send_close().ok()) asked.push_back(client);
  }
  for (DonorClient* client : asked) (void)client->await_close(by).ok();
}

void DonorPool::describe_shortage(const std::vector<uint64_t>& free_extents, std::string* problem) const {
  uint64_t free_bytes = 0;
  for (uint64_t free : free_extents) free_bytes += free * kExtentBytes;
  const bool mirror = config_.protection == Protection::kMirror;
  *problem = fmt::format(
      "{} {} free{}, and the VM's memory of {} must fit{}; start hecatond with a larger --size, add another --node, "
      "{}make the VM smaller (-m)",
      free_extents.size() == 1 ? fmt::format("donor {} has", members_[0].url.printable())
                               : fmt::format("the {} donors together have", free_extents.size()),
      free_bytes == 0 ? "nothing" : format_size(free_bytes), held_text(), format_size(config_.region_bytes),
      mirror ? " twice, at two donors each page" : "", mirror ? "choose another --protect, or " : "or ");
}

Result<void> DonorPool::open_first_regions(std::string* problem) {
  for (size_t i = 0; i < shares_.size(); ++i) {
    Member& member = members_[i];
    HEC_TRY(open_region(*member.demand.front(), member.url, shares_[i], problem));
    member.region_id = member.demand.front()->region_id();
    placement_->add_donor({donor_id(member.url.printable()), shares_[i], donor_id(member.url.host), member.local_disk});
    states_.set(i, DonorState::kLive);
  }
  for (size_t i = donors(); i-- > 0;) keep_record(i);  // the first last: with it they count
  outlived_ = !config_.records.empty();
  return {};
}

Result<void> DonorPool::open_region(DonorClient& client, const NodeUrl& url, uint64_t extents,
                                    std::string* problem) const {
  wire::OpenRegion open = region_;
  open.reserve_bytes = extents * kExtentBytes;
  std::string detail;
  Result<void> opened = client.open_region(open, Deadline::after_ms(config_.connect_ms), &detail);
  if (!opened.ok()) *problem = explain(url, opened.error(), detail);
  return opened;
}

// Those of the shards after the first, which has made itself known to the donors.
Result<void> DonorPool::open_more_demand(std::string* problem) {
  const bool taken_over = shares_.empty();
  for (size_t donor = 0; donor < donors(); ++donor) {
    Member& member = members_[donor];
    member.demand.resize(demand_buffers_.size());
    for (size_t shard = 1; shard < demand_buffers_.size() && states_.live(donor); ++shard) {
      auto link = open_link(member, placement_->capacity(donor), wire::Role::kDemand, demand_buffers_[shard],
                            config_.connect_ms, problem);
      if (!link.ok() && !taken_over) return link.error();
      if (link.ok()) {
        member.demand[shard] = std::move(link).value();
      } else {
        begin_cut(donor, *problem);
      }
    }
  }
  return {};
}

Result<void> DonorPool::open_links(std::string* problem) {
  for (auto [links, role, buffers] : {std::tuple(&prefetch_, wire::Role::kPrefetch, &prefetch_buffers_),
                                      std::tuple(&write_back_, wire::Role::kWriteBack, &write_back_buffers_)}) {
    auto open_one = [this, role = role, buffers = buffers](size_t donor, std::string* said) {
      return open_link(members_[donor], placement_->capacity(donor), role, *buffers, config_.connect_ms, said);
    };
    *links = std::make_unique<LinkSet>(donors(), config_.most_links, open_one);
    if (donors() > config_.most_links) continue;
    for (size_t donor = 0; donor < donors(); ++donor) {
      if (!states_.live(donor)) continue;
      Result<void> opened = (*links)->open(donor, problem);
      if (!opened.ok() && !shares_.empty()) return opened;
      if (!opened.ok()) begin_cut(donor, *problem);
    }
  }
  return {};
}

// A donor that is started anew between two connections holds nothing.
Result<std::unique_ptr<DonorClient>> DonorPool::open_link(const Member& member, uint64_t extents, wire::Role role,
                                                          LinkBuffers& buffers, int64_t connect_ms,
                                                          std::string* problem) const {
  std::unique_ptr<DonorClient> client = HEC_TRY(connect(member.url, role, buffers, connect_ms, problem));
  if (client->donor().donor_instance == member.instance) {
    HEC_TRY(open_region(*client, member.url, extents, problem));
    if (client->region_id() == member.region_id) return client;
  }
  *problem = fmt::format("donor {} was started anew just now; try again", member.url.printable());
  return Error{ErrorCode::kNotFound, 0, "the donor was started anew, and holds nothing of this VM"};
}

size_t DonorPool::connections() const {
  return donors() * demand_buffers_.size() + prefetch_->open_links() + write_back_->open_links();
}

}  // namespace hecaton
