// What a pool writes down of its donors, and how another pager's pool goes on from it.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "store/donor_pool.h"

namespace hecaton {
namespace {

// Each donor that is out of reach holds up the guest for so long at most. One that only takes longer is cut for a
// moment: tend() is more patient with it.
constexpr int64_t kReachAgainMs = 200;

}  // namespace

size_t DonorPool::recorded() const {
  size_t count = 0;
  while (count < config_.records.size() && config_.records[count].state.load() != MemberRecord::kNone) ++count;
  // The first is written last.
  return !config_.records.empty() && config_.records[0].state.load() == MemberRecord::kNone ? 0 : count;
}

// All about a donor that has just been admitted.
void DonorPool::keep_record(size_t donor) {
  if (config_.records.empty()) return;
  MemberRecord& record = config_.records[donor];
  const Member& member = members_[donor];
  const std::string url = member.url.with_token();
  HEC_CHECK(url.size() < sizeof record.url);
  record.instance = member.instance;
  record.region_id = member.region_id;
  record.inherits_from = member.inherits_from ? static_cast<uint32_t>(*member.inherits_from + 1) : 0;
  record.protection = static_cast<uint32_t>(placement_->protection());
  std::memset(record.url, 0, sizeof record.url);
  std::memcpy(record.url, url.data(), url.size());
  record.extents.store(placement_->capacity(donor));
  record.flags.store(member.local_disk ? uint32_t{MemberRecord::kLocalDisk} : 0);
  record.state.store(MemberRecord::kMember);
}

void DonorPool::keep_state(size_t donor, MemberRecord::State state) {
  if (!config_.records.empty()) config_.records[donor].state.store(state);
}

void DonorPool::keep_flag(size_t donor, MemberRecord::Flag flag) {
  if (!config_.records.empty()) config_.records[donor].flags.fetch_or(flag);
}

Result<void> DonorPool::take_over(std::string* problem) {
  outlived_ = true;  // whatever becomes of this pager: the next one needs the regions
  const uint32_t protection = config_.records[0].protection;
  if (protection > static_cast<uint32_t>(Protection::kSpill) || recorded() > states_.most()) {
    *problem = "what the pager before this one wrote down about its donors is damaged";
    return Error{ErrorCode::kCorrupt, 0, "the records of donors are damaged"};
  }
  placement_ = std::make_unique<PlacementTable>(words_, static_cast<Protection>(protection), states_.most());
  for (size_t donor = 0, all = recorded(); donor < all; ++donor) HEC_TRY(take_over_member(donor, problem));
  for (uint64_t extent = 0; extent < extents_; ++extent) {
    const CopySet copies = placement_->copies_of(ExtentNumber(extent));
    for (size_t i = 0; i < copies.size(); ++i) {
      if (copies[i].donor < donors()) continue;
      *problem = "what the pager before this one wrote down about its extents is damaged";
      return Error{ErrorCode::kCorrupt, 0, "the table of extents is damaged"};
    }
  }
  placement_->recount();
  for (size_t donor = 0; donor < donors(); ++donor) {
    if (members_[donor].removed && states_.of(donor) == DonorState::kCut) finish_removal(donor);
  }
  return {};
}

Result<void> DonorPool::take_over_member(size_t donor, std::string* problem) {
  const MemberRecord& record = config_.records[donor];
  Member& member = members_[donor];
  Result<NodeUrl> url = parse_node_url({record.url, strnlen(record.url, sizeof record.url)});
  if (!url.ok() || record.inherits_from > donor) {
    *problem = "what the pager before this one wrote down about its donors is damaged";
    return Error{ErrorCode::kCorrupt, 0, "the record of a donor is damaged"};
  }
  const uint32_t flags = record.flags.load();
  member.url = std::move(url).value();
  member.local_disk = (flags & MemberRecord::kLocalDisk) != 0;
  member.removed = (flags & MemberRecord::kRemoved) != 0;
  member.instance = record.instance;
  member.region_id = record.region_id;
  member.demand.resize(1);
  placement_->add_donor(
      {donor_id(member.url.printable()), record.extents.load(), donor_id(member.url.host), member.local_disk});
  if (flags & MemberRecord::kLeaving) {
    placement_->set_open(donor, false);
    placement_->set_leaving(donor, true);
  }
  if (record.inherits_from > 0) {
    // The other pager may have died before it said so.
    member.inherits_from = record.inherits_from - 1;
    Member& before = members_[*member.inherits_from];
    before.replaced = true;
    before.demand.front().reset();
    placement_->set_open(*member.inherits_from, false);
    keep_state(*member.inherits_from, MemberRecord::kGone);
    states_.set(*member.inherits_from, DonorState::kGone);
  }
  if (record.state.load() == MemberRecord::kMember) {
    if (!member.removed) return reach_member(donor, problem);
    return begin_cut(donor, "it was removed by hand"), Result<void>();
  }
  placement_->set_open(donor, false);
  // Of those that are gone no other number of the same URL is known; one that was given up may come back.
  member.replaced = record.state.load() == MemberRecord::kGone;
  states_.set(donor, record.state.load() == MemberRecord::kGone ? DonorState::kGone : DonorState::kLost);
  return {};
}

// One that cannot be reached now does not end the guest: tend() reaches it, or gives it up. Error: a later pager is
// there.
Result<void> DonorPool::reach_member(size_t donor, std::string* problem) {
  Member& member = members_[donor];
  const int64_t patience_ms = std::min(config_.connect_ms, kReachAgainMs);
  auto client = connect(member.url, wire::Role::kDemand, demand_buffers_.front(), patience_ms, problem);
  if (!client.ok()) return begin_cut(donor, *problem), Result<void>();
  if ((*client)->donor().donor_instance != member.instance) {
    return begin_lost(donor, "it was started anew, and holds nothing of this VM"), Result<void>();
  }
  Result<void> opened = open_region(**client, member.url, placement_->capacity(donor), problem);
  if (!opened.ok() && opened.error().code == ErrorCode::kBusy) return opened;
  if (!opened.ok()) return begin_cut(donor, *problem), Result<void>();
  if ((*client)->region_id() != member.region_id) {
    (void)(*client)->send_close().ok();  // this open has made it
    return begin_lost(donor, "it has given up what it held of this VM"), Result<void>();
  }
  member.demand.front() = std::move(client).value();
  states_.set(donor, DonorState::kLive);
  return {};
}

void DonorPool::begin_cut(size_t donor, const std::string& why) {
  Member& member = members_[donor];
  for (auto& link : member.demand) link.reset();
  member.trouble.with([&](std::string& trouble) { trouble = why; });
  states_.set(donor, DonorState::kCut);
}

void DonorPool::begin_lost(size_t donor, const std::string& why) {
  begin_cut(donor, why);
  give_up(donor, why);
}

}  // namespace hecaton
