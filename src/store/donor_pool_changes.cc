// Donors that go, come back and are added, while the pool is in use: the part of DonorPool that waits for the network.
#include <fmt/format.h>

#include <algorithm>

#include "base/clock.h"
#include "store/donor_pool.h"

namespace hecaton {

std::string DonorPool::trouble(size_t donor) const {
  return members_[donor].trouble.with([](const std::string& trouble) { return trouble; });
}

std::optional<size_t> DonorPool::inherits_from(size_t donor) const {
  return members_[donor].inherits_from;
}

bool DonorPool::shown(size_t donor) const {
  std::lock_guard lock(control_);
  return !members_[donor].replaced && !members_[donor].removed;
}

// Any thread, a fault thread too: nothing here waits.
void DonorPool::connection_ended(size_t donor, const Error& error) {
  if (error.code == ErrorCode::kProtocol) return give_up(donor, error.describe());
  if (!states_.connected(donor)) return;  // its end is known already
  members_[donor].trouble.with([&](std::string& trouble) { trouble = error.describe(); });
  if (states_.change(donor, DonorState::kLive, DonorState::kCut) ||
      states_.change(donor, DonorState::kSilent, DonorState::kCut)) {
    wake();
  }
}

void DonorPool::silent(size_t donor) {
  if (states_.change(donor, DonorState::kLive, DonorState::kSilent)) wake();
}

void DonorPool::dead(size_t donor) {
  give_up(donor, "it has not answered for 10 s, though it is connected");
}

void DonorPool::give_up(size_t donor, const std::string& why) {
  for (DonorState state : {DonorState::kLive, DonorState::kSilent, DonorState::kCut}) {
    if (states_.of(donor) != state) continue;
    placement_->set_open(donor, false);
    members_[donor].trouble.with([&](std::string& trouble) { trouble = why; });
    if (!states_.change(donor, state, DonorState::kLost)) continue;
    keep_state(donor, MemberRecord::kLost);
    wake();
    notice(fmt::format("donor {} is lost: {}", members_[donor].url.printable(), why));
    return;
  }
}

// Two copies at one process by two names would be one, and each of the two would end the other's writes.
Result<void> DonorPool::check_process(const Member& member, std::optional<size_t> heir_of, std::string* problem) const {
  if (heir_of && member.instance != members_[*heir_of].instance) {
    return Error{ErrorCode::kNotFound, 0, "it was started anew, and holds nothing of this VM"};
  }
  for (size_t donor = 0, all = donors(); donor < all && !heir_of; ++donor) {
    const Member& other = members_[donor];
    const bool same_name = other.url.host == member.url.host && other.url.port == member.url.port;
    if (other.replaced || other.removed || same_name || other.instance != member.instance) continue;
    *problem = fmt::format("donors {} and {} are the same hecatond; it is in the pool already", other.url.printable(),
                           member.url.printable());
    return Error{ErrorCode::kInvalidArgument, 0, "a donor is named twice"};
  }
  return {};
}

Result<void> DonorPool::take_up(LinkSet& links, std::unique_ptr<DonorClient> Member::*spare) {
  for (size_t donor = links.size(); donor < donors(); ++donor) {
    HEC_TRY(links.add(std::move(members_[donor].*spare)));
  }
  return {};
}

Result<size_t> DonorPool::admit(const NodeUrl& url, uint64_t extents, std::optional<size_t> heir_of, int64_t connect_ms,
                                std::string* problem) {
  const size_t donor = donors();
  if (donor == states_.most()) {
    *problem = fmt::format("this VM has had {} donors, and can have no more", donor);
    return Error{ErrorCode::kFull, 0, "too many donors"};
  }
  Member& member = members_[donor];
  member.demand.clear();
  member.url = url;
  std::unique_ptr<DonorClient> first =
      HEC_TRY(connect(url, wire::Role::kDemand, demand_buffers_[0], connect_ms, problem));
  member.instance = first->donor().donor_instance;
  HEC_TRY(check_process(member, heir_of, problem));
  if (heir_of) {
    HEC_TRY(open_region(*first, url, extents, problem));
  } else {
    extents = HEC_TRY(open_with_room(*first, url, 0, extents, problem));
  }
  member.region_id = first->region_id();
  if (heir_of && member.region_id != members_[*heir_of].region_id) {
    return Error{ErrorCode::kNotFound, 0, "it has given up what it held of this VM"};
  }
  member.demand.push_back(std::move(first));
  for (size_t shard = 1; shard < demand_buffers_.size(); ++shard) {
    member.demand.push_back(
        HEC_TRY(open_link(member, extents, wire::Role::kDemand, demand_buffers_[shard], connect_ms, problem)));
  }
  member.spare_prefetch =
      HEC_TRY(open_link(member, extents, wire::Role::kPrefetch, prefetch_buffers_, connect_ms, problem));
  member.spare_write_back =
      HEC_TRY(open_link(member, extents, wire::Role::kWriteBack, write_back_buffers_, connect_ms, problem));
  member.local_disk = heir_of && members_[*heir_of].local_disk;
  member.inherits_from = heir_of;
  placement_->add_donor({donor_id(url.printable()), extents, donor_id(url.host), member.local_disk});
  keep_record(donor);  // it may be given up as soon as it is live
  set_state(donor, DonorState::kLive);
  return donor;
}

Result<uint64_t> DonorPool::open_with_room(DonorClient& client, const NodeUrl& url, uint64_t extents, uint64_t more,
                                           std::string* problem) const {
  const Result<void> all = open_region(client, url, extents + more, problem);
  if (all.ok()) return more;
  if (all.error().code != ErrorCode::kFull) return all.error();
  more = std::min(more, client.donor().free_bytes / kExtentBytes);
  if (more == 0) {
    *problem = fmt::format("donor {} has nothing free; start it with a larger --size", url.printable());
    return Error{ErrorCode::kFull, 0, "the donor has nothing free"};
  }
  HEC_TRY(open_region(client, url, extents + more, problem));
  return more;
}

void DonorPool::tend(int64_t now_ns) {
  std::lock_guard lock(control_);
  for (size_t donor = 0, all = donors(); donor < all; ++donor) {
    Member& member = members_[donor];
    const DonorState state = states_.of(donor);
    if (state == DonorState::kCut) reach_again(donor, now_ns);
    if (state == DonorState::kLost && !member.removed && !member.replaced) take_back(donor, now_ns);
    if (state == DonorState::kLive && placement_->is_leaving(donor) && placement_->placed_at(donor) == 0 &&
        !member.told_drained) {
      member.told_drained = true;
      notice(fmt::format("donor {} is drained: it holds nothing of this VM any more", member.url.printable()));
    }
  }
  if (now_ns >= next_room_ns_) {
    next_room_ns_ = now_ns + kRoomMs * 1'000'000;
    make_room();
  }
}

void DonorPool::reach_again(size_t donor, int64_t now_ns) {
  Member& member = members_[donor];
  if (member.cut_ns == 0) {
    member.cut_ns = now_ns;
    notice(fmt::format("donor {} is cut off ({}); trying to reach it again", member.url.printable(), trouble(donor)));
  }
  if (now_ns < member.next_try_ns) return;
  member.next_try_ns = now_ns + kRetryMs * 1'000'000;
  std::string problem;
  Result<size_t> again = admit(member.url, placement_->capacity(donor), donor, 1000, &problem);
  if (again.ok()) {
    placement_->set_open(*again, placement_->is_open(donor));
    inherit_leaving(*again, donor);
    placement_->set_open(donor, false);
    member.replaced = true;
    keep_state(donor, MemberRecord::kGone);
    set_state(donor, DonorState::kGone);
    notice(fmt::format("donor {} is reached again, and has what it had", member.url.printable()));
    return;
  }
  const Error& error = again.error();
  const bool hopeless = error.code == ErrorCode::kNotFound || error.os_error == ECONNREFUSED ||
                        error.code == ErrorCode::kPermission || error.code == ErrorCode::kFull;
  if (error.code == ErrorCode::kNotFound) return give_up(donor, error.context);
  if (hopeless || now_ns - member.cut_ns > kReachMs * 1'000'000) give_up(donor, trouble(donor));
}

// A drain lasts until the donor is removed, whatever becomes of its process and its connections.
bool DonorPool::inherit_leaving(size_t donor, size_t from) {
  if (!placement_->is_leaving(from)) return false;
  placement_->set_open(donor, false);
  placement_->set_leaving(donor, true);
  keep_flag(donor, MemberRecord::kLeaving);
  return true;
}

// A donor that was lost and is there again is as good as any other. What it may still have of this VM counts for
// nothing.
void DonorPool::take_back(size_t donor, int64_t now_ns) {
  Member& member = members_[donor];
  if (now_ns < member.next_try_ns) return;
  member.next_try_ns = now_ns + kReturnMs * 1'000'000;
  if (member.local_disk || placement_->placed_at(donor) > 0) return;  // its loss is not dealt with yet
  std::string problem;
  Result<size_t> again = admit(member.url, placement_->capacity(donor), std::nullopt, 500, &problem);
  if (!again.ok()) return;
  const bool leaving = inherit_leaving(*again, donor);
  member.replaced = true;
  keep_state(donor, MemberRecord::kGone);
  touch();
  notice(fmt::format("donor {} is back, and empty; {}", member.url.printable(),
                     leaving ? "it was drained, and gets nothing" : "it is used again"));
}

// Copies found no room: what donors have free is reserved for this VM, as far as it is needed.
void DonorPool::make_room() {
  uint64_t lacking = lacking_copies_.load();
  if (lacking == 0) {
    told_lacking_ = false;
    return;
  }
  bool more = false;
  for (size_t donor = 0, all = donors(); donor < all && lacking > 0; ++donor) {
    Member& member = members_[donor];
    if (!states_.live(donor) || placement_->is_leaving(donor)) continue;
    if (!placement_->is_open(donor) && placement_->placed_at(donor) < placement_->capacity(donor)) {
      // It refused a write for want of memory, which it may have by now. If not, it says so again.
      lacking -= std::min(lacking, placement_->capacity(donor) - placement_->placed_at(donor));
      placement_->set_open(donor, true);
      more = true;
      continue;
    }
    if (member.local_disk) continue;
    std::string problem;
    auto control = connect(member.url, wire::Role::kControl, write_back_buffers_, 1000, &problem);
    if (!control.ok() || (*control)->donor().donor_instance != member.instance) continue;
    const uint64_t has = placement_->capacity(donor);
    if (has == extents_) continue;
    auto given = open_with_room(**control, member.url, has, std::min(lacking, extents_ - has), &problem);
    if (!given.ok()) continue;
    placement_->set_capacity(donor, has + *given);
    if (!config_.records.empty()) config_.records[donor].extents.store(has + *given);
    placement_->set_open(donor, true);
    lacking -= *given;
    more = true;
  }
  if (more) return touch();
  if (told_lacking_) return;
  told_lacking_ = true;
  notice(fmt::format(
      "the pool is full: {} of the VM's memory cannot be given {}; add a donor (hecaton pool add), or "
      "start one of them with a larger --size",
      format_size(lacking * kExtentBytes), placement_->wanted() > 1 ? "the copies that protect it" : "a place"));
}

std::optional<size_t> DonorPool::find(const NodeUrl& url) const {
  for (size_t donor = donors(); donor > 0; --donor) {
    const Member& member = members_[donor - 1];
    if (!member.replaced && !member.removed && member.url.host == url.host && member.url.port == url.port) {
      return donor - 1;
    }
  }
  return std::nullopt;
}

Result<void> DonorPool::add(const NodeUrl& url, std::string* problem) {
  std::lock_guard lock(control_);
  HEC_TRY(check_may_use(url, problem));
  if (find(url)) {
    *problem = fmt::format("donor {} is in the pool already", url.printable());
    return Error{ErrorCode::kInvalidArgument, 0, "a donor is named twice"};
  }
  size_t live = 1;
  for (size_t donor = 0; donor < donors(); ++donor) live += states_.live(donor) && !members_[donor].local_disk;
  const uint64_t share = extents_ * placement_->wanted() / live + 1;
  const uint64_t wanted = std::min(extents_, std::max(share, lacking_copies_.load()));
  HEC_TRY(admit(url, wanted, std::nullopt, config_.connect_ms, problem));
  touch();
  return {};
}

// Without another donor that takes extents, the VM could give nothing away any more, and would soon stand still.
Result<void> DonorPool::check_others_than(size_t donor, std::string* problem) const {
  for (size_t other = 0; other < donors(); ++other) {
    if (other != donor && states_.live(other) && !placement_->is_leaving(other) && !members_[other].local_disk)
      return {};
  }
  *problem =
      fmt::format("donor {} is the only one that the VM's memory can be at: add another first (hecaton pool add)",
                  members_[donor].url.printable());
  return Error{ErrorCode::kBusy, 0, "the only donor"};
}

Result<void> DonorPool::drain(const NodeUrl& url, std::string* problem) {
  std::lock_guard lock(control_);
  const std::optional<size_t> donor = find(url);
  if (!donor) {
    *problem = fmt::format("donor {} is not in the pool; 'hecaton pool list' shows those that are", url.printable());
    return Error{ErrorCode::kNotFound, 0, "no such donor"};
  }
  HEC_TRY(check_others_than(*donor, problem));
  placement_->set_open(*donor, false);
  placement_->set_leaving(*donor, true);
  keep_flag(*donor, MemberRecord::kLeaving);
  touch();
  return {};
}

Result<void> DonorPool::remove(const NodeUrl& url, bool force, std::string* problem) {
  std::lock_guard lock(control_);
  const std::optional<size_t> donor = find(url);
  if (!donor) {
    *problem = fmt::format("donor {} is not in the pool; 'hecaton pool list' shows those that are", url.printable());
    return Error{ErrorCode::kNotFound, 0, "no such donor"};
  }
  const uint64_t placed = placement_->placed_at(*donor);
  if (placed > 0 && !force && states_.hoped_for(*donor)) {
    *problem = fmt::format(
        "donor {} still holds {} of this VM's memory: drain it first ('hecaton pool drain'), or "
        "give up what it holds with --force",
        url.printable(), format_size(placed * kExtentBytes));
    return Error{ErrorCode::kBusy, 0, "the donor holds memory"};
  }
  if (states_.hoped_for(*donor)) HEC_TRY(check_others_than(*donor, problem));
  members_[*donor].removed = true;
  keep_flag(*donor, MemberRecord::kRemoved);
  finish_removal(*donor);
  return {};
}

// Whoever takes over goes on here, if the pager dies in between.
void DonorPool::finish_removal(size_t donor) {
  if (placement_->placed_at(donor) > 0) return give_up(donor, "it was removed by hand");
  placement_->set_open(donor, false);
  keep_state(donor, MemberRecord::kGone);
  set_state(donor, DonorState::kGone);
}

}  // namespace hecaton
