// The connections of one kind, prefetch or write-back, to all donors of a pool.
//
// A small pool has them all from the start. In a big one most would idle and cost descriptors, which are limited: there
// a connection is made when it is first used, and when there are too many, one that owes nothing is closed. The demand
// connections, which every pool has all of, keep the regions open and notice a donor's end.
//
// One thread, once the pool is open; open_links() is any thread's.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "os/poller.h"
#include "store/donor_client.h"

namespace hecaton {

class LinkSet;

// One of them, open or not. Requests open it.
class Link {
 public:
  Link(LinkSet& set, size_t donor) : set_(&set), donor_(donor) {}

  // As DonorClient's, and its errors besides those of connecting.
  Result<void> send_read(uint64_t request_id, std::span<const PageNumber> pages) {
    return HEC_TRY(client())->send_read(request_id, pages);
  }
  Result<void> send_write(uint64_t request_id, std::span<const wire::PageEntry> entries, std::span<const iovec> pages) {
    return HEC_TRY(client())->send_write(request_id, entries, pages);
  }
  Result<void> send_discard(uint64_t request_id, std::span<const PageRun> runs) {
    return HEC_TRY(client())->send_discard(request_id, runs);
  }
  template <typename Take>
  Result<size_t> receive(Take&& take) {
    if (!client_) return size_t{0};  // closed since the event: it owed nothing
    return client_->receive(std::forward<Take>(take));
  }

 private:
  friend LinkSet;
  Result<DonorClient*> client();

  LinkSet* set_;
  size_t donor_;
  std::unique_ptr<DonorClient> client_;
};

class LinkSet {
 public:
  // Connects to a donor and opens the region there. On error the text says it in words for the user.
  using Connect = std::function<Result<std::unique_ptr<DonorClient>>(size_t donor, std::string* problem)>;

  // At most `most` are open at once, unless more owe answers.
  LinkSet(size_t donors, size_t most, Connect connect);
  LinkSet(const LinkSet&) = delete;
  LinkSet& operator=(const LinkSet&) = delete;

  // Ahead of its use.
  Result<void> open(size_t donor, std::string* problem) { return open(links_[donor], problem); }
  Link& operator[](size_t donor) { return links_[donor]; }
  // A donor more, at the end; connected already, or when it is first used.
  Result<void> add(std::unique_ptr<DonorClient> client);
  size_t size() const { return links_.size(); }
  // The donor's connection ends, whatever it owes; a request would open another.
  void close(size_t donor);
  size_t open_links() const { return open_links_; }

  // Answers become events of `poller`, with the donor's number as the token: those of links that are opened later too.
  Result<void> watch(const Poller& poller);

 private:
  friend Link;
  Result<void> open(Link& link, std::string* problem);
  Result<void> adopt(Link& link, std::unique_ptr<DonorClient> client);
  bool close_one();

  const size_t most_;
  const Connect connect_;
  std::deque<Link> links_;     // which stay where they are
  std::deque<size_t> opened_;  // the open ones, in the order of opening
  std::optional<Poller> poller_;
  std::atomic<size_t> open_links_{0};
};

}  // namespace hecaton
