// The regions of a donor by name: who may use them, and that what is promised never exceeds what is lent.
//
//   open ──▶ in use ── last connection gone, closed ──────────────────▶ freed
//              ▲ └──── last connection gone, not closed ──▶ lingering ──▶ freed, once the grace is over
//              └──────────────── the same client opens it ─────┘
//
// A lingering region is what a VM whose pager died, or whose network failed, comes back for: its bytes and reservation
// stay. It does not keep another VM from its name: then there are two of that name, told apart by their secrets.
//
// A pager that takes a VM over opens its regions with a larger epoch: from then on nothing that an earlier one sent
// changes a page, or the reservation, or closes the region. In the same way a pager's new write-back connection ends
// what its earlier one, cut off, had sent: come late, it would overwrite newer bytes.
//
// Threads: any number at once; one lock around the table. Region memory is used outside of it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <variant>

#include "base/clock.h"
#include "base/guarded.h"
#include "donor/region.h"
#include "wire/frame.h"

namespace hecaton::donor {

// A request that is not granted: the status and the text of the error reply.
struct Refusal {
  wire::Status status;
  std::string text;
};

struct RegionTableOptions {
  // Gets the memory of regions that ended, to unmap it. Without one it is unmapped on the thread that ended them.
  std::function<void(std::unique_ptr<Region>)> bury = {};
  Backing* backing = nullptr;  // where page bytes are kept, if not in memory; must outlive the table
  int64_t grace_ns = 0;        // how long a region lingers; 0: not at all
  std::function<int64_t()> now_ns = monotonic_ns;
  // Told when end_lingering() has something to do.
  std::function<void(int64_t at_ns)> wake_at = {};
};

class RegionTable {
  struct Slot {
    std::array<std::byte, wire::kSecretBytes> secret;
    uint64_t client_instance;
    std::unique_ptr<Region> region;
    std::string name;
    uint64_t attachments = 0;
    bool closed = false;           // on purpose: it does not linger
    int64_t lingers_until_ns = 0;  // while nothing is attached
    // Both are changed while nobody changes the region.
    std::atomic<uint64_t> epoch{0};   // of the latest pager
    std::atomic<uint64_t> writer{0};  // the number of the latest become_writer()
    std::shared_mutex changing;       // shared: by whoever changes the region
  };

 public:
  explicit RegionTable(uint64_t lends_bytes, RegionTableOptions options = {})
      : lends_pages_(lends_bytes / kPageBytes), options_(std::move(options)) {}

  // One connection's use of a region. Must not outlive the table.
  class Attachment {
   public:
    Attachment(Attachment&& other) noexcept
        : table_(std::exchange(other.table_, nullptr)),
          slot_(other.slot_),
          epoch_(other.epoch_),
          writer_(other.writer_) {}
    Attachment& operator=(Attachment&&) = delete;
    ~Attachment() {
      if (table_) table_->detach(slot_);
    }
    Region& region() const { return *slot_->region; }
    const std::string& name() const { return slot_->name; }
    // From now on only this one, and those that never asked for it, change the region. Waits for changes under way.
    void become_writer() {
      std::unique_lock nobody_changes(slot_->changing);
      writer_ = ++slot_->writer;
    }
    // To be held while the region is changed. Refused: a later pager has opened the region, or a later connection has
    // become its writer, and what this one has still under way must not change it any more.
    std::variant<std::shared_lock<std::shared_mutex>, Refusal> begin_change() const;
    // Sets the reservation, up or down but no lower than what the region holds; what it is now, in bytes.
    std::variant<uint64_t, Refusal> reserve(uint64_t bytes) const { return table_->reserve(*slot_, bytes); }
    // The VM needs the region no more: it ends with its last attachment, unless somebody opens it before. Does nothing
    // if a later pager has it.
    void close() const { table_->close(*slot_, epoch_); }

   private:
    friend RegionTable;
    Attachment(RegionTable* table, Slot* slot, uint64_t epoch) : table_(table), slot_(slot), epoch_(epoch) {}
    RegionTable* table_;
    Slot* slot_;  // lives while it has attachments
    uint64_t epoch_;
    uint64_t writer_ = 0;  // none
  };

  // Makes the region, or joins it: with the secret, the client instance and the size of the first opener. The
  // reservation is rounded up to pages and cut at the region's size; a join may raise it, and never lowers it.
  std::variant<Attachment, Refusal> open(const wire::OpenRegion& wanted, uint64_t client_instance);

  // Frees the regions whose grace is over.
  void end_lingering();
  // Frees all that linger.
  void end_all_lingering();

  struct Usage {
    uint64_t lends_bytes, reserved_bytes, used_bytes, regions;
    uint64_t lingering_regions = 0, lingering_bytes = 0, lingering_ms = 0;  // reserved; until the last of them ends
    uint64_t free_bytes() const { return lends_bytes - reserved_bytes; }
  };
  Usage usage() const;

 private:
  using Slots = std::multimap<std::string, std::unique_ptr<Slot>, std::less<>>;
  struct Table {
    Slots slots;
    uint64_t reserved_pages = 0;
  };
  std::variant<Attachment, Refusal> create(Table& table, const wire::OpenRegion& wanted, uint64_t client_instance);
  std::variant<Attachment, Refusal> join(Table& table, Slot& slot, const wire::OpenRegion& wanted,
                                         uint64_t client_instance);
  static void fence(Slot& slot, uint64_t epoch);
  static Slot* find(Table& table, const wire::OpenRegion& wanted);
  Refusal full(const Table& table, const std::string& name, uint64_t more_pages) const;
  std::string held_text(const Table& table) const;
  Refusal no_region(const wire::OpenRegion& wanted, const Error& error) const;
  std::variant<uint64_t, Refusal> reserve(Slot& slot, uint64_t bytes);
  void close(Slot& slot, uint64_t epoch);
  void detach(Slot* slot);
  void end_those_until(int64_t until_ns);
  std::unique_ptr<Region> take_out(Table& table, Slots::iterator at) const;
  void bury(std::unique_ptr<Region> ended) const;
  Usage usage_of(const Table& table) const;

  const uint64_t lends_pages_;
  const RegionTableOptions options_;
  Guarded<Table> table_;
};

}  // namespace hecaton::donor
