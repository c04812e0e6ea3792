// Seals the pages of a VM: encrypted and authenticated on the host before they leave, so that whoever has them
// afterwards (a donor, its disk, the network) can neither read, change nor replay one. AES-256-GCM by OpenSSL.
//
// What leaves is the ciphertext alone, exactly as long as the bytes it stands for. Nonce and tag stay on the host, in a
// record for each page. So what opens is what was sealed last for that very page, and nothing else: an older page of it
// fails, whatever version its donor claims.
//
// Nonce: a 64-bit number, given out once under a key by a counter that lies beside the key, in memory that outlives
// the pager. It is raised before the number is used, so a pager that takes over from a killed one repeats none. It
// cannot be the page's version, which has 21 bits and comes round. Bound to each page besides: its number and version.
//
// Who touches a record, and when:
//
//   written  by the evict thread, of a page that it has made Leaving and Dirty before that, ahead of sending it
//   read     by whoever has made the page Fetching from Remote; by the evict thread itself, of what it copies in repair
//
// Whenever the table says Remote or Clean, the record is of the bytes that donors hold:
//   - A page that was sealed becomes Remote or Clean only by a commit of the version that it was sealed as, and that
//     commit fails once a later begin_leave() has raised the version; without a later begin_leave() nobody seals.
//   - A batch that was rejected or given up, or whose page was taken back or discarded, leaves a record that belongs to
//     nothing. The page is then Dirty or Absent, whose record nobody reads, and leaves those only by being sealed anew.
//     So does a Clean page whose donors are lost: it becomes Dirty.
//   - A Clean page that leaves is not sent, thus not sealed: its record stays, as the donors' bytes do. A fetch, done
//     or given back, seals nothing either.
//   - A second copy at another donor, made now or in a later repair, is the same ciphertext.
// Write and read are ordered by the changes of the page's word between them, all of them sequentially consistent: a
// record needs no lock and no atomic. One donor's write-backs arrive in order, so an older batch never follows a newer.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"
#include "base/units.h"

struct evp_cipher_ctx_st;

namespace hecaton {

struct SealHead {
  std::array<std::byte, 32> key;
  std::atomic<uint64_t> numbers_given;  // the last nonce's
};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "it is shared between processes");

struct SealRecord {
  uint64_t number;  // of the nonce; 0: never sealed
  std::array<std::byte, 16> tag;
};

// What a sealed VM's host must keep: whoever has it can bring the VM's pages back, and nobody else can. It belongs in
// memory that is shared, so that it outlives the pager, and never dumped.
struct SealState {
  // The head has a page of its own, so that it can be locked alone.
  static constexpr size_t kHeadBytes = kPageBytes;
  static constexpr size_t bytes_for(uint64_t pages) { return kHeadBytes + pages * sizeof(SealRecord); }
  // In `memory` of bytes_for(pages): zeros that have no key yet, or what was a SealState before.
  static SealState at(std::byte* memory, uint64_t pages);
  // Keeps the head out of swap. Every process that maps it does this first; error: kSystem, it may not lock a page.
  Result<void> lock() const;
  // Once for a VM: never on the state of one that has sealed anything.
  void make_key() const;

  SealHead* head;
  std::span<SealRecord> records;  // of each page of the region
};

// One thread; each that seals or opens has one of its own. Allocates nothing after create().
class PageSeal {
 public:
  // Error: kUnsupported, this machine's OpenSSL has no AES-256-GCM.
  static Result<PageSeal> create(const SealState& state);
  // Of a sealed VM: one that must work, because create() did before.
  static std::optional<PageSeal> of(const std::optional<SealState>& state);

  // Writes the ciphertext of `plain` to as many bytes of `sealed` (which may be the same), and the page's record. Bytes
  // that change meanwhile give a ciphertext of neither; it opens to that mixture, and tells no more than another.
  void seal(PageNumber page, uint32_t version, std::span<const std::byte> plain, std::byte* sealed);
  // False, if these are not the bytes that were sealed last for this page, as this version: then what was written to
  // `plain` must not be used.
  [[nodiscard]] bool open(PageNumber page, uint32_t version, std::span<const std::byte> sealed, std::byte* plain);

 private:
  struct Free {
    void operator()(evp_cipher_ctx_st* context) const;
  };
  using Context = std::unique_ptr<evp_cipher_ctx_st, Free>;
  PageSeal(const SealState& state, Context sealer, Context opener)
      : state_(state), sealer_(std::move(sealer)), opener_(std::move(opener)) {}

  SealState state_;
  Context sealer_, opener_;
};

}  // namespace hecaton
