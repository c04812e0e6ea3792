// A simulated network with donors on it, and the clock of all: the real donor code (sessions, regions) behind
// connections whose bytes take time, and that can be slow, cut, partitioned, or lie.
//
//   DonorClient ── Stream ──▶ bytes, each with a time of arrival ──▶ donor::Session ──▶ donor::Region
//               ◀───────────── in order within one connection only ◀──
//
// The first frames of a connection, up to the opening of the region, are answered at once: connecting is one step.
// One thread, driven by the caller's random numbers.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/clock.h"
#include "donor/session.h"
#include "transport/stream.h"
#include "wire/node_url.h"

namespace hecaton::sim {

// The clock of the simulation that runs; a plain function for LoopContext.
int64_t now_ns();

class Network;

// What a donor does to the answers to reads; kMalformed: to those to writes, too.
enum class Lie : uint8_t { kNone, kDamaged, kAbsent, kOlder, kMalformed, kKinds };

// A machine with a hecatond on it.
class Machine {
 public:
  Machine(NodeUrl url, uint64_t lends_bytes) : url_(std::move(url)), lends_bytes_(lends_bytes) {}

  const NodeUrl& url() const { return url_; }
  bool runs() const { return process_ != nullptr; }
  // Counts the processes and the regions that there were: what one of them held the next does not have.
  uint64_t generation() const { return generation_; }

  struct Stored {
    wire::PageEntry entry;
    bool intact;
    std::vector<std::byte> bytes;
  };
  // What it really has of a page.
  std::optional<Stored> peek(PageNumber page);
  // Pages for which `wrong` says so. Looks into the region once.
  void for_each_page(uint64_t pages, const std::function<void(const wire::PageEntry&, bool intact)>& use);
  // The machine gives no more memory than is used now.
  void fill_up();
  void empty_again();
  // A bit of a page flips in memory. False: it does not have the page.
  bool damage(PageNumber page);

  bool hangs = false;        // takes bytes, does nothing
  bool partitioned = false;  // no packet passes
  int64_t slow_ns = 0;       // added to every answer
  Lie lie = Lie::kNone;
  unsigned lie_one_in = 1;      // answers
  int64_t lied_ns = INT64_MIN;  // when it lied last

 private:
  friend Network;
  friend class SimStream;
  std::optional<donor::RegionTable::Attachment> attach();
  void end_lingering();

  const NodeUrl url_;
  const uint64_t lends_bytes_;
  std::unique_ptr<donor::DonorState> process_;
  uint64_t generation_ = 0;
  bool holds_ = false;                      // a region
  std::optional<wire::OpenRegion> opened_;  // as the pager opened it
  uint64_t client_instance_ = 0;
  uint64_t limit_before_ = 0;         // pages; 0: not filled up
  std::map<uint64_t, Stored> older_;  // by page
};

class Network {
 public:
  Network(std::mt19937_64& random, int64_t start_ns);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  Machine& add(uint64_t lends_bytes);
  std::deque<Machine>& machines() { return machines_; }
  Machine& machine(const NodeUrl& url);
  // For PoolConfig.
  Result<std::unique_ptr<Stream>> connect(const NodeUrl& url, Deadline by);

  // Donors work off what arrives until then.
  void advance(int64_t ns);

  void start(Machine& machine);
  // The process ends, and what it held with it.
  void kill(Machine& machine);
  // A connection of that machine is cut, or all of them; the donor learns it soon, late, or never.
  void cut_one(Machine& machine);
  void cut_all(Machine& machine);
  // After a partition: what each connection had sent is sent again, sooner or later.
  static constexpr int64_t kMostResentNs = 3'000'000'000;
  void resume(Machine& machine);
  size_t connections() const { return connections_.size(); }
  uint64_t messages() const { return messages_; }
  int64_t typical_delay_ns = 20'000;
  int64_t grace_ns = 0;  // for which a donor keeps a region that no connection has open

  struct Connection;

 private:
  friend class SimStream;
  uint64_t random(uint64_t below) { return random_() % below; }
  int64_t delay();
  void deliver(Connection& connection);
  void cut(Connection& connection);
  void forget_closed();

  std::mt19937_64& random_;
  std::deque<Machine> machines_;
  std::vector<std::shared_ptr<Connection>> connections_;
  uint64_t messages_ = 0;
};

}  // namespace hecaton::sim
