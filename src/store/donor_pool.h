// The donors of one VM: connecting to them, which of them holds what, and how they are doing. Donors come and go while
// the VM runs.
//
// Three kinds of connection to each donor, one for each kind of page traffic, so that a demand read never queues behind
// prefetch or write-back; of the demand connections one for each shard, so that no two fault threads share one. Each
// belongs to the thread that uses it, and so do the buffers of its kind; the placement table and the states of donors
// are shared. Of a pool of more than `most_links` donors, not all prefetch and write-back connections are open at once:
// see LinkSet.
//
// A thread that finds a connection broken says so (connection_ended), and drops it; so do the others once they see the
// change of state. tend(), which the pool's own thread calls now and then, tries to reach donors again, gives up those
// that are dead, takes up those that come back, and asks for more room where it is needed.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/guarded.h"
#include "placement/placement_table.h"
#include "store/donor_client.h"
#include "store/donor_states.h"
#include "store/link_set.h"
#include "store/member_record.h"
#include "wire/node_url.h"

namespace hecaton {

// Who opens the region at the donors: the same words for all pagers of one VM, but for the epoch.
struct PoolIdentity {
  uint64_t instance = 0;  // 0: a new identity, random
  std::array<std::byte, wire::kSecretBytes> secret{};
  uint64_t epoch = 1;
};

struct PoolConfig {
  std::vector<NodeUrl> nodes;  // at least one
  std::string vm_name;
  uint64_t region_bytes = 0;
  bool insecure = false;  // off loopback, donors that the credentials do not cover: the user has said that it may be so
  Credentials credentials = {};  // what proves us to donors, and them to us
  int64_t connect_ms = 5000;
  unsigned shards = 1;       // fault threads
  size_t most_links = 1024;  // prefetch and write-back connections, of each kind
  // Nothing: a mirror if the donors have room for it, else what is left of protection.
  std::optional<Protection> protection = Protection::kNone;
  std::optional<NodeUrl> local_disk;  // a donor on this very machine that keeps pages on its disk
  // What users should know of: a donor is lost, all is protected again. Any thread.
  std::function<void(const std::string&)> on_notice;
  PoolIdentity identity = {};
  // What outlives the pool, one word for each extent and a record for each donor there may ever be; empty: nothing
  // does. Records that are there already are those of an earlier pager, whose pool this one takes over.
  std::span<PlacementTable::Word> placement_words = {};
  std::span<MemberRecord> records = {};
  // How donors are reached; a simulation has a network of its own.
  std::function<Result<std::unique_ptr<Stream>>(const NodeUrl&, const Credentials&, Deadline)> connect = connect_to;
};

class DonorPool {
 public:
  // Connects all, and reserves the whole region over them in proportion to what each has free. Or goes on with the pool
  // of the records: donors that cannot be reached are Cut then, and those that hold nothing any more are Lost. On error
  // `problem` names the donor and says what to do.
  static Result<std::unique_ptr<DonorPool>> open(const PoolConfig& config, std::string* problem);
  // Closes the regions unless they outlive it: see close_regions().
  ~DonorPool() {
    if (!outlived_) close_regions();
  }

  // The VM needs its memory no more, and its donors need not keep it for a pager that comes back. Once no other thread
  // uses the connections; nothing can be asked of the donors after it. Waits for their answers, but not long.
  void close_regions();

  // How many donors there ever were; none of their numbers is used twice.
  size_t donors() const { return placement_->donors(); }
  size_t most_donors() const { return states_.most(); }
  // Whether it is to be shown: not if another number goes on with its URL.
  bool shown(size_t donor) const;
  const NodeUrl& url(size_t donor) const { return members_[donor].url; }
  const DonorStates& states() const { return states_; }
  PlacementTable& placement() { return *placement_; }
  const PlacementTable& placement() const { return *placement_; }
  // Why it is not live, in words; empty if it is.
  std::string trouble(size_t donor) const;

  // --- the connections, each by its own thread. Only of donors whose number is below what the thread has taken up.
  // Null if it is dropped.
  DonorClient* demand(unsigned shard, size_t donor) { return members_[donor].demand[shard].get(); }
  void drop_demand(unsigned shard, size_t donor) { members_[donor].demand[shard].reset(); }
  LinkSet& prefetch_links() { return *prefetch_; }
  LinkSet& write_back_links() { return *write_back_; }
  Link& prefetch(size_t donor) { return (*prefetch_)[donor]; }
  Link& write_back(size_t donor) { return (*write_back_)[donor]; }
  // Donors that were added meanwhile get their link.
  Result<void> take_up_prefetch() { return take_up(*prefetch_, &Member::spare_prefetch); }
  Result<void> take_up_write_back() { return take_up(*write_back_, &Member::spare_write_back); }
  size_t connections() const;
  // Pages that were read over RDMA without a donor's help. Any thread.
  uint64_t direct_pages() const { return direct_pages_; }

  // --- what the threads find. Any thread
  void connection_ended(size_t donor, const Error& error);
  void silent(size_t donor);
  void dead(size_t donor);  // silent for too long
  void answered(size_t donor) {
    if (states_.of(donor) == DonorState::kSilent && states_.change(donor, DonorState::kSilent, DonorState::kLive))
      wake();
  }
  // It refuses a write for want of room: it gets no more extents.
  void full(size_t donor) { placement_->set_open(donor, false); }
  // So many copies found no room when all extents were last looked at.
  void set_lacking_copies(uint64_t copies) { lacking_copies_ = copies; }
  uint64_t lacking_copies() const { return lacking_copies_; }
  // For threads other than those of the states: look at all extents again.
  void touch() {
    states_.touch();
    wake();
  }
  // Called after each change of a state, by any thread. Before others use the pool; unset when they are gone.
  void set_wake(std::function<void()> wake) { wake_ = std::move(wake); }
  // The donor whose copies go under this one's number from now on, as one that was reached again. The placing thread
  // renames them, once.
  std::optional<size_t> inherits_from(size_t donor) const;

  // For the user.
  void notice(const std::string& text) const {
    if (config_.on_notice) config_.on_notice(text);
  }

  // --- control; any thread, may wait for the network. On error `problem` is for the user
  Result<void> add(const NodeUrl& url, std::string* problem);
  // Its extents move away; it gets no new ones.
  Result<void> drain(const NodeUrl& url, std::string* problem);
  // It is used no more. Error unless it is drained and empty, or `force`d: then its copies are lost.
  Result<void> remove(const NodeUrl& url, bool force, std::string* problem);
  // Now and then, by one thread: see above.
  void tend(int64_t now_ns);
  static constexpr int kTendMs = 50;

  // How long a donor that is cut off may stay so before it is given up.
  static constexpr int64_t kReachMs = 10'000;

 private:
  // The largest answer to a demand read or a write is far smaller; room for several saves system calls.
  static constexpr size_t kSmallFrames = 64 * 1024;
  // Demand reads of a shard in flight at most: that many connections can have a part of an answer.
  static constexpr size_t kMostDemandReads = 256;
  static constexpr size_t kMoreDonors = 1024;  // than at first, over the VM's life
  static constexpr int64_t kRetryMs = 200, kReturnMs = 2000, kRoomMs = 500;
  // A write-back that a donor does not take for so long is better sent elsewhere, if there is somewhere else.
  static constexpr int64_t kShortSendMs = 500;

  struct Member {
    NodeUrl url;
    bool local_disk = false;
    uint64_t instance = 0, region_id = 0;
    std::vector<std::unique_ptr<DonorClient>> demand;  // of each shard
    std::unique_ptr<DonorClient> spare_prefetch, spare_write_back;
    std::optional<size_t> inherits_from;
    Guarded<std::string> trouble;
    // Under control_:
    int64_t cut_ns = 0, next_try_ns = 0;
    bool removed = false;   // by the user
    bool replaced = false;  // another number goes on with its URL
    bool told_drained = false;
  };

  DonorPool(const PoolConfig& config, size_t most_donors);
  Result<void> check_may_use(const NodeUrl& url, std::string* problem) const;
  Result<void> connect_all(std::string* problem);
  Result<void> share_out(std::string* problem);
  std::string held_text() const;
  void describe_shortage(const std::vector<uint64_t>& free_extents, std::string* problem) const;
  Result<void> open_first_regions(std::string* problem);
  // Of the records; see donor_pool_takeover.cc.
  size_t recorded() const;
  void keep_record(size_t donor);
  void keep_state(size_t donor, MemberRecord::State state);
  void keep_flag(size_t donor, MemberRecord::Flag flag);
  Result<void> take_over(std::string* problem);
  Result<void> take_over_member(size_t donor, std::string* problem);
  Result<void> reach_member(size_t donor, std::string* problem);
  void begin_cut(size_t donor, const std::string& why);
  void begin_lost(size_t donor, const std::string& why);

  Result<void> open_more_demand(std::string* problem);
  Result<void> open_links(std::string* problem);
  Result<std::unique_ptr<DonorClient>> connect(const NodeUrl& url, wire::Role role, LinkBuffers& buffers,
                                               int64_t connect_ms, std::string* problem) const;
  Result<void> open_region(DonorClient& client, const NodeUrl& url, uint64_t extents, std::string* problem) const;
  // Opens the region with room for `extents` and as many of `more` as the donor gives: how many. All are asked for, and
  // only then what is free: a donor that was lost and is back may have them reserved for this very VM.
  Result<uint64_t> open_with_room(DonorClient& client, const NodeUrl& url, uint64_t extents, uint64_t more,
                                  std::string* problem) const;
  Result<std::unique_ptr<DonorClient>> open_link(const Member& member, uint64_t extents, wire::Role role,
                                                 LinkBuffers& buffers, int64_t connect_ms, std::string* problem) const;
  // Everything a donor needs to be used, under the next number.
  Result<size_t> admit(const NodeUrl& url, uint64_t extents, std::optional<size_t> heir_of, int64_t connect_ms,
                       std::string* problem);
  Result<void> take_up(LinkSet& links, std::unique_ptr<DonorClient> Member::*spare);
  void reach_again(size_t donor, int64_t now_ns);
  void take_back(size_t donor, int64_t now_ns);
  void give_up(size_t donor, const std::string& why);
  void finish_removal(size_t donor);
  bool inherit_leaving(size_t donor, size_t from);
  Result<void> check_process(const Member& member, std::optional<size_t> heir_of, std::string* problem) const;
  void make_room();
  std::optional<size_t> find(const NodeUrl& url) const;
  Result<void> check_others_than(size_t donor, std::string* problem) const;
  void wake() const {
    if (wake_) wake_();
  }
  void set_state(size_t donor, DonorState state) {
    states_.set(donor, state);
    wake();
  }

  const PoolConfig config_;
  bool outlived_ = false;  // the records hold what another pager needs to go on
  const uint64_t instance_;
  const uint64_t extents_;
  wire::OpenRegion region_;                  // the same words to every donor, but for what it reserves
  std::vector<LinkBuffers> demand_buffers_;  // of each shard
  LinkBuffers prefetch_buffers_{wire::kHeaderBytes + wire::kMaxBodyBytes};
  LinkBuffers write_back_buffers_{wire::kHeaderBytes + wire::kMaxBodyBytes};
  mutable std::atomic<uint64_t> direct_pages_{0};  // outlives the clients that count in it
  DonorStates states_;
  std::unique_ptr<Member[]> members_;  // one is written before it is counted, and stays where it is
  std::vector<uint64_t> shares_;       // at first
  std::unique_ptr<LinkSet> prefetch_, write_back_;
  std::vector<PlacementTable::Word> own_words_;
  const std::span<PlacementTable::Word> words_;
  std::unique_ptr<PlacementTable> placement_;
  std::function<void()> wake_;
  std::atomic<uint64_t> lacking_copies_{0};
  mutable std::mutex control_;
  int64_t next_room_ns_ = 0;
  bool told_lacking_ = false;
};

}  // namespace hecaton
