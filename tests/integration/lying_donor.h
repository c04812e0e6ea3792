// A donor that lies: it stands between a host and an honest donor, and answers reads with other bytes than the host
// sent, in the version that the host knows and with the checksum that belongs to them. What only a seal finds out.
//
// Threads: its own thread relays; the rest by any.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "os/poller.h"
#include "transport/stream.h"
#include "wire/frame.h"

namespace hecaton {

class LyingDonor {
 public:
  enum class Lie : uint8_t {
    kNone,
    kOlderBytes,   // what the page was when it was read first
    kBitFlipped,   // in the middle
    kAnotherPage,  // what was read last of another one
  };
  static std::optional<Lie> lie_named(std::string_view name);  // none, older, flipped, another

  // `listen`: port 0 is any.
  static Result<std::unique_ptr<LyingDonor>> start(const NodeUrl& listen, const NodeUrl& honest);
  ~LyingDonor();

  const NodeUrl& address() const { return listener_.address(); }
  // From the page on that is read as the `after`-th from now.
  void lie(Lie what, uint64_t after = 0) {
    honest_pages_.store(after);
    lie_.store(what);
  }
  uint64_t lies_told() const { return lies_told_.load(); }

 private:
  using Bytes = std::vector<std::byte>;
  struct Link {
    std::unique_ptr<Stream> host, donor;
    Bytes from_donor;  // not relayed yet
  };
  struct Read {
    PageNumber page;
    Bytes bytes;
  };
  LyingDonor(TcpListener listener, NodeUrl honest, WakeFlag wake)
      : listener_(std::move(listener)), honest_(std::move(honest)), wake_(std::move(wake)) {}

  void run();
  void accept();
  bool relay(Link& link);
  bool relay_frames(Link& link);
  Bytes told(const wire::FrameHeader& header, std::span<const std::byte> body);
  void change(wire::PageEntry& entry, Bytes& bytes);
  const Bytes* another_than(PageNumber page) const;
  void remember(PageNumber page, Bytes bytes);

  TcpListener listener_;
  NodeUrl honest_;
  WakeFlag wake_;
  std::atomic<bool> stop_{false};
  std::atomic<Lie> lie_{Lie::kNone};
  std::atomic<uint64_t> honest_pages_{0}, lies_told_{0};
  std::deque<Link> links_;
  std::unordered_map<uint64_t, Bytes> first_;  // of each page
  Read last_, before_;                         // of two different pages
  std::thread thread_;
};

}  // namespace hecaton
