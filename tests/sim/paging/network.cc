#include "paging/network.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace hecaton::sim {
namespace {

int64_t g_now_ns = 0;

// The donor's keepalive finds a peer that is gone without a word.
constexpr int64_t kKeepaliveNs = 30'000'000'000;

}  // namespace

int64_t now_ns() {
  return g_now_ns;
}

struct Network::Connection final : donor::ReplySink {
  struct Segment {
    int64_t due_ns;
    std::vector<std::byte> bytes;  // empty: the end
    size_t taken = 0;
  };
  Connection(Network& the_network, Machine& the_machine)
      : network(the_network),
        machine(the_machine),
        session(std::make_unique<donor::Session>(*the_machine.process_, *this)) {}

  // The donor answers: a whole frame.
  IoResult send(std::span<const iovec> pieces) override {
    std::vector<std::byte> bytes;
    for (const iovec& piece : pieces) {
      const auto* first = static_cast<const std::byte*>(piece.iov_base);
      bytes.insert(bytes.end(), first, first + piece.iov_len);
    }
    const size_t size = bytes.size();
    if (!setup) maybe_lie(bytes);
    put(to_host, std::move(bytes), setup ? 0 : machine.slow_ns);
    return {IoResult::Kind::kBytes, size};
  }

  // In pieces, so that frames arrive in parts.
  void put(std::deque<Segment>& queue, std::vector<std::byte> bytes, int64_t extra_ns) {
    ++network.messages_;
    int64_t due = g_now_ns + (setup ? 0 : network.delay()) + extra_ns;
    if (!queue.empty()) due = std::max(due, queue.back().due_ns);
    if (!setup && bytes.size() > 64 && network.random(8) == 0) {
      const size_t cut_at = 1 + network.random(bytes.size() - 1);
      queue.push_back({due, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(cut_at)}});
      bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(cut_at));
      due += network.delay();
    }
    queue.push_back({due, std::move(bytes)});
  }

  void maybe_lie(std::vector<std::byte>& bytes);
  void feed(std::span<const std::byte> bytes);

  Network& network;
  Machine& machine;
  std::unique_ptr<donor::Session> session;  // null: the donor's end is gone
  bool setup = true;                        // the region is not opened yet
  bool host_gone = false;                   // the host has closed its end
  bool host_cut = false;                    // the host's end is broken
  int64_t donor_gone_ns = INT64_MAX;        // the host learns then that the donor's end is gone
  std::deque<Segment> to_donor, to_host;
};

void Network::Connection::feed(std::span<const std::byte> bytes) {
  std::vector<std::byte> scratch(64 * 1024);
  for (size_t at = 0; at < bytes.size() && session->wants_to_receive();) {
    std::span<std::byte> space = session->receive_space(scratch);
    const size_t part = std::min(space.size(), bytes.size() - at);
    std::memcpy(space.data(), bytes.data() + at, part);
    at += part;
    session->received(space.first(part));
  }
}

void Network::Connection::maybe_lie(std::vector<std::byte>& bytes) {
  auto header = wire::decode_header(std::span<const std::byte, wire::kHeaderBytes>(bytes.data(), wire::kHeaderBytes));
  if (!header.ok() || header->status != wire::Status::kOk) return;
  const bool read = header->operation == wire::Operation::kReadPages;
  const bool written = header->operation == wire::Operation::kWritePages;
  if (!read && !(written && machine.lie == Lie::kMalformed)) return;
  if (machine.lie == Lie::kNone || network.random(machine.lie_one_in) != 0) return;
  machine.lied_ns = g_now_ns;
  if (machine.lie == Lie::kMalformed) {
    header->body_bytes = 3;
    bytes.assign(wire::kHeaderBytes + header->body_bytes, std::byte{0xff});
    wire::encode_header(*header, bytes.data());
    return;
  }
  auto body = std::span(bytes).subspan(wire::kHeaderBytes);
  wire::PageSetView set = wire::PageSetView::decode(body).value();
  std::vector<wire::PageEntry> entries;
  std::vector<std::byte> stored;
  const size_t victim = network.random(set.size());
  wire::PageSetCursor cursor(set);
  for (size_t i = 0; i < set.size(); ++i) {
    auto page = *cursor.next();
    std::vector<std::byte> own(page.stored.begin(), page.stored.end());
    if (i == victim && machine.lie == Lie::kDamaged && !own.empty()) own[network.random(own.size())] ^= std::byte{1};
    if (i == victim && machine.lie == Lie::kAbsent) {
      page.entry = {page.entry.page, 0, 0, wire::PageState::kAbsent};
      own.clear();
    }
    if (auto old = machine.older_.find(page.entry.page.value);
        i == victim && machine.lie == Lie::kOlder && old != machine.older_.end()) {
      page.entry = old->second.entry;
      own = old->second.bytes;
    }
    entries.push_back(page.entry);
    stored.insert(stored.end(), own.begin(), own.end());
  }
  std::vector<std::byte> lie(wire::kHeaderBytes + wire::page_set_head_bytes(entries.size()));
  wire::encode_page_set_head(entries, lie.data() + wire::kHeaderBytes);
  lie.insert(lie.end(), stored.begin(), stored.end());
  header->body_bytes = static_cast<uint32_t>(lie.size() - wire::kHeaderBytes);
  wire::encode_header(*header, lie.data());
  bytes = std::move(lie);
}

// The host's end.
class SimStream final : public Stream {
 public:
  explicit SimStream(std::shared_ptr<Network::Connection> connection) : it_(std::move(connection)) {}
  ~SimStream() override {
    it_->host_gone = true;
    it_->to_host.clear();
    if (!it_->session) return;
    Network& network = it_->network;
    // An end with answers unread is a reset, which may overtake what was sent.
    if (network.random(4) == 0) {
      const size_t keep = network.random(it_->to_donor.size() + 1);
      it_->to_donor.resize(keep);
    }
    if (it_->host_cut || it_->machine.partitioned) {
      // Its end goes nowhere.
      if (network.random(2) == 0) {
        it_->setup = false;
        it_->to_donor.push_back({g_now_ns + kKeepaliveNs, {}});
        return;
      }
    }
    it_->put(it_->to_donor, {}, 0);
  }

  IoResult receive(std::span<std::byte> into) override {
    const bool reachable = !it_->machine.partitioned;
    if (it_->host_cut) return {IoResult::Kind::kClosed, 0};
    if (!it_->to_host.empty() && reachable && it_->to_host.front().due_ns <= g_now_ns) {
      auto& segment = it_->to_host.front();
      const size_t part = std::min(into.size(), segment.bytes.size() - segment.taken);
      std::memcpy(into.data(), segment.bytes.data() + segment.taken, part);
      segment.taken += part;
      if (segment.taken == segment.bytes.size()) it_->to_host.pop_front();
      return {IoResult::Kind::kBytes, part};
    }
    if (it_->to_host.empty() && reachable && it_->donor_gone_ns <= g_now_ns) return {IoResult::Kind::kClosed, 0};
    return {IoResult::Kind::kWouldBlock, 0};
  }

  IoResult send(std::span<const iovec> pieces) override {
    if (it_->host_cut || (!it_->machine.partitioned && it_->donor_gone_ns <= g_now_ns)) {
      return {IoResult::Kind::kClosed, 0};
    }
    std::vector<std::byte> bytes;
    for (const iovec& piece : pieces) {
      const auto* first = static_cast<const std::byte*>(piece.iov_base);
      bytes.insert(bytes.end(), first, first + piece.iov_len);
    }
    const size_t size = bytes.size();
    if (!it_->setup) {
      remember_some(bytes);
      if (it_->session) it_->put(it_->to_donor, std::move(bytes), 0);  // else: lost on the way
      return {IoResult::Kind::kBytes, size};
    }
    note(bytes);
    it_->feed(bytes);
    if (opens_) it_->setup = false;
    return {IoResult::Kind::kBytes, size};
  }
  int fd() const override { return -1; }
  bool finish_sending() override { return true; }

 private:
  void note(std::span<const std::byte> frame) {
    auto header =
        wire::decode_header(std::span<const std::byte, wire::kHeaderBytes>(frame.data(), wire::kHeaderBytes)).value();
    const auto body = frame.subspan(wire::kHeaderBytes);
    if (header.operation == wire::Operation::kHello) {
      it_->machine.client_instance_ = wire::decode_hello(body).value().client_instance;
    } else if (header.operation == wire::Operation::kOpenRegion) {
      it_->machine.opened_ = wire::decode_open_region(body).value();
      it_->machine.holds_ = true;
      opens_ = true;
    }
  }
  // For lies: what is written now is old one day.
  void remember_some(std::span<const std::byte> frame) {
    auto header =
        wire::decode_header(std::span<const std::byte, wire::kHeaderBytes>(frame.data(), wire::kHeaderBytes)).value();
    if (header.operation != wire::Operation::kWritePages || it_->network.random(4) != 0) return;
    wire::PageSetView set = wire::PageSetView::decode(frame.subspan(wire::kHeaderBytes)).value();
    const size_t i = it_->network.random(set.size());
    const auto stored = set.stored(i);
    it_->machine.older_[set.entry(i).page.value] = {set.entry(i), true, {stored.begin(), stored.end()}};
  }
  std::shared_ptr<Network::Connection> it_;
  bool opens_ = false;
};

// ---------------------------------------------------------------- machines

std::optional<donor::RegionTable::Attachment> Machine::attach() {
  if (!process_ || !opened_ || process_->regions.usage().regions == 0) return std::nullopt;
  wire::OpenRegion open = *opened_;
  open.reserve_bytes = 0;
  auto attached = process_->regions.open(open, client_instance_);
  if (auto* it = std::get_if<donor::RegionTable::Attachment>(&attached)) return std::move(*it);
  return std::nullopt;
}

namespace {

Machine::Stored look(donor::Region& region, PageNumber page) {
  donor::StripeSet stripes;
  stripes.add(page);
  donor::Region::View view(region, stripes);
  Machine::Stored stored{view.entry(page), false, {}};
  if (stored.entry.state != wire::PageState::kPresent) return stored;
  const std::byte* bytes = view.bytes(page);
  stored.bytes.assign(bytes, bytes + stored.entry.stored_bytes);
  stored.intact = wire::page_checksum(stored.bytes, page, stored.entry.version) == stored.entry.checksum;
  return stored;
}

}  // namespace

void Machine::end_lingering() {
  if (!process_ || !holds_) return;
  process_->regions.end_lingering();
  if (process_->regions.usage().regions > 0) return;
  holds_ = false;
  ++generation_;
}

std::optional<Machine::Stored> Machine::peek(PageNumber page) {
  auto attached = attach();
  if (!attached || !attached->region().contains(page)) return std::nullopt;
  Stored stored = look(attached->region(), page);
  if (stored.entry.state != wire::PageState::kPresent) return std::nullopt;
  return stored;
}

void Machine::for_each_page(uint64_t pages, const std::function<void(const wire::PageEntry&, bool intact)>& use) {
  auto attached = attach();
  if (!attached) return;
  for (PageNumber page(0); page.value < pages; ++page) {
    Stored stored = look(attached->region(), page);
    if (stored.entry.state == wire::PageState::kPresent) use(stored.entry, stored.intact);
  }
}

void Machine::fill_up() {
  auto attached = attach();
  if (!attached) return;
  limit_before_ = attached->region().limit();
  attached->region().set_limit(attached->region().used_pages());
}

void Machine::empty_again() {
  if (auto attached = attach(); attached && limit_before_ > 0) {
    attached->region().set_limit(std::max(attached->region().limit(), limit_before_));
  }
  limit_before_ = 0;
}

bool Machine::damage(PageNumber page) {
  auto attached = attach();
  if (!attached) return false;
  donor::StripeSet stripes;
  stripes.add(page);
  donor::Region::View view(attached->region(), stripes);
  if (view.entry(page).state != wire::PageState::kPresent) return false;
  const_cast<std::byte*>(view.bytes(page))[0] ^= std::byte{1};
  return true;
}

// ---------------------------------------------------------------- the network

Network::Network(std::mt19937_64& random, int64_t start_ns) : random_(random) {
  g_now_ns = start_ns;
}

Network::~Network() {
  for (auto& connection : connections_) connection->session.reset();
}

Machine& Network::add(uint64_t lends_bytes) {
  const size_t number = machines_.size() + 1;
  Machine& machine = machines_.emplace_back(NodeUrl{"", "127.0.0." + std::to_string(number), 9999, false}, lends_bytes);
  start(machine);
  return machine;
}

Machine& Network::machine(const NodeUrl& url) {
  auto found = std::find_if(machines_.begin(), machines_.end(), [&](const Machine& it) { return it.url() == url; });
  HEC_CHECK(found != machines_.end());
  return *found;
}

Result<std::unique_ptr<Stream>> Network::connect(const NodeUrl& url, Deadline) {
  Machine& it = machine(url);
  if (it.partitioned || it.hangs) return Error{ErrorCode::kTimeout, ETIMEDOUT, "connect"};
  if (!it.runs()) return Error{ErrorCode::kUnavailable, ECONNREFUSED, "connect"};
  connections_.push_back(std::make_shared<Connection>(*this, it));
  return std::unique_ptr<Stream>(new SimStream(connections_.back()));
}

// Mostly near the typical, now and then far from it.
int64_t Network::delay() {
  const int64_t typical = typical_delay_ns / 2 + static_cast<int64_t>(random(static_cast<uint64_t>(typical_delay_ns)));
  return random(50) == 0 ? typical * static_cast<int64_t>(1 + random(100)) : typical;
}

void Network::advance(int64_t ns) {
  const int64_t until = g_now_ns + ns;
  for (;;) {
    Connection* next = nullptr;
    uint64_t late = 0;
    for (auto& it : connections_) {
      if (!it->session || it->to_donor.empty() || it->machine.hangs || it->machine.partitioned) continue;
      const int64_t due = it->to_donor.front().due_ns;
      if (due > until) continue;
      // Of those that are late already (the donor hung) any may be the next.
      if (due <= g_now_ns) {
        if (random(++late) == 0) next = it.get();
      } else if (late == 0 && (!next || due < next->to_donor.front().due_ns)) {
        next = it.get();
      }
    }
    if (!next) break;
    g_now_ns = std::max(g_now_ns, next->to_donor.front().due_ns);
    deliver(*next);
  }
  g_now_ns = until;
  for (Machine& machine : machines_) machine.end_lingering();
  forget_closed();
}

void Network::deliver(Connection& it) {
  auto segment = std::move(it.to_donor.front());
  it.to_donor.pop_front();
  if (segment.bytes.empty()) {
    it.session->peer_closed();
  } else {
    it.feed(segment.bytes);
  }
  if (!it.session->over()) return;
  it.session.reset();
  it.to_donor.clear();
  it.donor_gone_ns = std::max(g_now_ns, it.to_host.empty() ? 0 : it.to_host.back().due_ns) + delay();
  it.machine.end_lingering();
}

void Network::forget_closed() {
  std::erase_if(connections_, [](const auto& it) { return it->host_gone && !it->session; });
}

void Network::start(Machine& machine) {
  HEC_CHECK(!machine.runs());
  machine.process_ = std::make_unique<donor::DonorState>(
      machine.lends_bytes_, 10'000, donor::RegionTableOptions{.grace_ns = grace_ns, .now_ns = now_ns});
  machine.holds_ = false;
  ++machine.generation_;
  machine.older_.clear();
}

void Network::kill(Machine& machine) {
  for (auto& it : connections_) {
    if (&it->machine != &machine || !it->session) continue;
    it->session.reset();
    it->to_donor.clear();
    // What it had sent may still arrive.
    it->to_host.resize(random(it->to_host.size() + 1));
    it->donor_gone_ns = std::max(g_now_ns, it->to_host.empty() ? 0 : it->to_host.back().due_ns) + delay();
  }
  machine.process_.reset();
  ++machine.generation_;
}

void Network::cut(Connection& it) {
  it.host_cut = true;
  it.to_host.clear();
  if (!it.session) return;
  it.to_donor.resize(random(it.to_donor.size() + 1));
  const int64_t extra = random(2) == 0 ? 0 : kKeepaliveNs;
  it.put(it.to_donor, {}, extra);
}

void Network::cut_one(Machine& machine) {
  std::vector<Connection*> its;
  for (auto& it : connections_) {
    if (&it->machine == &machine && !it->host_gone && !it->host_cut) its.push_back(it.get());
  }
  if (!its.empty()) cut(*its[random(its.size())]);
}

void Network::resume(Machine& machine) {
  for (auto& it : connections_) {
    if (&it->machine != &machine) continue;
    const int64_t from = g_now_ns + static_cast<int64_t>(random(kMostResentNs));
    for (Connection::Segment& segment : it->to_donor) segment.due_ns = std::max(segment.due_ns, from);
  }
}

void Network::cut_all(Machine& machine) {
  for (auto& it : connections_) {
    if (&it->machine == &machine && !it->host_gone && !it->host_cut) cut(*it);
  }
}

}  // namespace hecaton::sim
