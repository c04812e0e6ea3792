// What outlives the pager: a memory file with everything that cannot be found out anew. The supervisor makes it before
// the first pager, QEMU's process keeps it open, and each pager maps it. Fresh memory is all zeros, but for the header.
//
//   header         magic, version, sizes of all that follows; identity towards the donors; how QEMU's RAM is registered
//   configuration  the pager's options, as text
//   page words     4 bytes a page: residency/page_table.h
//   placement      8 bytes an extent: placement/placement_table.h
//   members        the donors: store/member_record.h
//   counters       the figures of the run: PagerCounters
//   seal           what `--seal` needs: store/page_seal.h; only if asked for
//
// Both sides may be of different builds: magic, version and every size are checked before anything is used. It names no
// bytes of the guest, but holds the secret that opens its region at the donors: never written anywhere, never dumped.
#pragma once

#include <array>
#include <span>
#include <string>

#include "os/memory.h"
#include "os/owned_fd.h"
#include "os/userfaultfd.h"
#include "pager/pager_state.h"
#include "placement/placement_table.h"
#include "store/donor_pool.h"
#include "store/member_record.h"

namespace hecaton {

// How the guest's process has its RAM mapped and registered.
struct GuestLayout {
  RemoteAddress base;
  uint64_t stripe_bytes = 0;
  uint32_t shards = 0;
  int32_t pid = 0;
  std::array<int32_t, Stripes::kMostShards> descriptors{};  // of its userfaultfds, by shard
};

class StateMemory {
 public:
  static constexpr size_t kMostMembers = 65534;
  static constexpr size_t kMostConfiguration = 8 * 1024 * 1024;

  // A new file for a region of so many bytes, with a new identity, and `sealed` with a new key: so whoever opens it
  // later finds one, and the counter of its nonces.
  static Result<OwnedFd> create_file(uint64_t region_bytes, bool sealed);
  // Error: kCorrupt, or kUnsupported: it is of another version.
  static Result<StateMemory> open(int fd);

  uint64_t region_bytes() const;
  // Counts this pager: 1 for the first.
  uint64_t begin_epoch();
  PoolIdentity identity() const;

  std::string configuration() const;
  void set_configuration(std::string_view text);
  // Nothing until QEMU's RAM was handed over.
  std::optional<GuestLayout> layout() const;
  void set_layout(const GuestLayout& layout);

  std::span<PageTable::Word> page_words() const;
  std::span<PlacementTable::Word> placement_words() const;
  std::span<MemberRecord> members() const;
  PagerCounters& counters() const;
  std::span<std::byte> seal() const;  // a SealState; empty if it was not asked for

 private:
  struct Header;
  explicit StateMemory(Mapping map) : map_(std::move(map)) {}
  Header& header() const { return *reinterpret_cast<Header*>(map_.data()); }
  template <typename T>
  std::span<T> section(size_t i) const;
  Mapping map_;
};

}  // namespace hecaton
