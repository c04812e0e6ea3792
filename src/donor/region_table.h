// The regions of a donor by name: who may use them, and that what is promised never exceeds what is lent.
//
// Threads: any number at once; one lock around the table. Region memory is used outside of it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>

#include "base/guarded.h"
#include "donor/region.h"
#include "wire/frame.h"

namespace hecaton::donor {

// A request that is not granted: the status and the text of the error reply.
struct Refusal {
  wire::Status status;
  std::string text;
};

class RegionTable {
  struct Slot {
    std::string name;
    std::array<std::byte, wire::kSecretBytes> secret;
    uint64_t client_instance;
    std::unique_ptr<Region> region;
    uint64_t attachments = 0;
  };

 public:
  // Gets the memory of regions that ended, to unmap it. Without one it is unmapped on the thread that ended them.
  using Bury = std::function<void(std::unique_ptr<Region>)>;

  explicit RegionTable(uint64_t lends_bytes, Bury bury = {})
      : lends_pages_(lends_bytes / kPageBytes), bury_(std::move(bury)) {}

  // One connection's use of a region. The region ends with its last attachment: its memory is freed, its name and
  // reservation are free again. Must not outlive the table.
  class Attachment {
   public:
    Attachment(Attachment&& other) noexcept : table_(std::exchange(other.table_, nullptr)), slot_(other.slot_) {}
    Attachment& operator=(Attachment&&) = delete;
    ~Attachment() {
      if (table_) table_->detach(slot_);
    }
    Region& region() const { return *slot_->region; }
    const std::string& name() const { return slot_->name; }

   private:
    friend RegionTable;
    Attachment(RegionTable* table, Slot* slot) : table_(table), slot_(slot) {}
    RegionTable* table_;
    Slot* slot_;  // lives while it has attachments
  };

  // Makes the region, or joins it: with the secret, the client instance and the size of the first opener. The
  // reservation is rounded up to pages and cut at the region's size; a join may raise it, and never lowers it.
  std::variant<Attachment, Refusal> open(const wire::OpenRegion& wanted, uint64_t client_instance);

  struct Usage {
    uint64_t lends_bytes, reserved_bytes, used_bytes, regions;
    uint64_t free_bytes() const { return lends_bytes - reserved_bytes; }
  };
  Usage usage() const;

 private:
  struct Table {
    std::map<std::string, std::unique_ptr<Slot>, std::less<>> slots;
    uint64_t reserved_pages = 0;
  };
  std::variant<Attachment, Refusal> create(Table& table, const wire::OpenRegion& wanted, uint64_t client_instance);
  std::variant<Attachment, Refusal> join(Table& table, Slot& slot, const wire::OpenRegion& wanted,
                                         uint64_t client_instance);
  Refusal full(const Table& table, const wire::OpenRegion& wanted, uint64_t more_pages) const;
  void detach(Slot* slot);

  const uint64_t lends_pages_;
  const Bury bury_;
  Guarded<Table> table_;
};

}  // namespace hecaton::donor
