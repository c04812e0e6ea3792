// The home's side: for each page of its range who has it, and who is next.
//
// home_rules.inc is its table. One page is with one new owner at a time, or with any number of readers; requests that
// come meanwhile wait in the order in which they came, readers behind a writer that waits as well. So nobody is passed
// over.
//
// Pure; one thread at a time, as its Core. 16 bytes a page; a Busy for each page that is under way, reused.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/node_id.h"
#include "base/result.h"
#include "coherence/actions.h"
#include "coherence/home_map.h"
#include "coherence/rules.h"

namespace hecaton::coherence {

class Directory {
 public:
  // More pages than this no node may ask for at once.
  static constexpr size_t kMostRequestsOfANode = 1023;

  // Each page belongs to `self`, untouched. Versions count within `version_mask`: all bits, but for tests.
  Directory(NodeId self, PageRun range, uint32_t version_mask);

  bool has(PageNumber page) const { return page >= range_.first && page < range_.end(); }
  HomeState state(PageNumber page) const { return entry(page).state; }
  NodeId owner(PageNumber page) const {
    return entry(page).owner;
  }  // of Shared: who wrote it last, if it is still there
  NodeSet sharers(PageNumber page) const { return entry(page).sharers; }
  bool migratory(PageNumber page) const { return entry(page).migratory; }

  // kRead, kWrite or kDone for a page that it has. Error: nothing has changed.
  Result<void> receive(NodeId from, const Message& message, Outbox& out);

  // Appends the pages whose newest bytes were, or may have been, there.
  void node_lost(NodeId lost, Outbox& out, std::vector<PageRun>& pages);

  // For tests that compare states: appends all that matters for what happens next.
  void append_state(std::vector<uint64_t>& out) const;

 private:
  struct Entry {
    NodeSet sharers;  // all that have it, or will once what is under way is done
    uint32_t version = 0;
    uint16_t slot = 0;  // of its Busy, from 1 on; 0: none
    NodeId owner;
    HomeState state : 4;
    bool migratory : 1;  // its owners read it, and then write it
  };
  static_assert(sizeof(Entry) == 16);

  struct Busy {
    NodeSet in_service;  // they were answered, and have not said that they are done
    NodeSet waiting;     // in the queue
    NodeSet writers;     // of those in the queue
    NodeId supplier;     // who was told to send the page to its new owner
    bool supplied = false;
    uint8_t head = 0, count = 0;
    std::array<uint8_t, kMostNodes> queue{};
  };

  struct Request {
    PageNumber page;
    NodeId from;
    bool writes;
  };

  Entry& entry(PageNumber page) { return entries_[page - range_.first]; }
  const Entry& entry(PageNumber page) const { return entries_[page - range_.first]; }
  Busy* busy(const Entry& e) { return e.slot == 0 ? nullptr : &slots_[e.slot - 1u]; }
  Busy& make_busy(Entry& e);
  void end_busy(Entry& e);

  Result<void> request(const Request& request, Outbox& out);
  Result<void> done(NodeId from, const Message& message, Outbox& out);
  HomeEvent classify(const Entry& e, const Request& request) const;
  void apply(const HomeRule& rule, const Request& request, Outbox& out);
  void move(Entry& e, Kind how, bool to_read, const Request& request, Outbox& out);
  void fetch_shared(Entry& e, const Request& request, Outbox& out);
  void enqueue(Entry& e, const Request& request);
  void serve_next(PageNumber page, Outbox& out);
  NodeId supplier_of(Entry& e);
  bool forget(PageNumber page, NodeId lost, Outbox& out);
  void lose(PageNumber page, Outbox& out);

  NodeId self_;
  PageRun range_;
  uint32_t version_mask_;
  std::vector<Entry> entries_;
  std::vector<Busy> slots_;
  std::vector<uint16_t> free_slots_;
  std::array<uint16_t, kMostNodes> requests_{};  // of each node, under way or waiting
  NodeSet invalidate_;                           // what the second step of a rule needs from the first
};

}  // namespace hecaton::coherence
