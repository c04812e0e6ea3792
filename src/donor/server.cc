#include "donor/server.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/clock.h"
#include "base/log.h"
#include "os/thread.h"
#include "transport/tls_stream.h"

namespace hecaton {
namespace {

constexpr uint64_t kWakeToken = UINT64_MAX;  // the others: number of the donor one of whose listeners is ready
constexpr unsigned kMostAutomaticThreads = 16;
constexpr int kAcceptsPerTurn = 64;
constexpr int kAcceptPauseMs = 100;
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kWarnEveryNs = 10'000'000'000;
// Connections beyond the most that still get an answer, a refusal, before more are closed without one.
constexpr uint64_t kRefusedWithText = 64;

constexpr size_t kPlainStrangers = 4096;
constexpr size_t kTlsStrangers = 256;

// Who speaks without TLS to a donor that wants it gets this as the answer to its hello.
std::vector<std::byte> plain_refusal() {
  constexpr std::string_view kText =
      "this donor wants TLS, and proof of who you are: name it by the URL of the line 'pair with' that hecatond "
      "prints when it starts, hecaton://TOKEN@HOST:PORT, or give --token-file FILE (--tls-cert, --tls-key and --tls-ca "
      "if it was started with certificates)";
  static_assert(kText.size() <= wire::kMaxTextBytes);
  std::vector<std::byte> frame(wire::kHeaderBytes + kText.size());
  wire::encode_header({wire::Operation::kHello, wire::Status::kRefused, kText.size(), 0, 1}, frame.data());
  std::memcpy(frame.data() + wire::kHeaderBytes, kText.data(), kText.size());
  return frame;
}

size_t strangers_for(const DonorConfig& config, unsigned threads) {
  const size_t most = config.max_strangers != 0 ? config.max_strangers : config.tls ? kTlsStrangers : kPlainStrangers;
  return std::max<size_t>(1, most / threads);
}

unsigned threads_for(const DonorConfig& config) {
  if (config.threads != 0) return config.threads;
  return std::clamp(std::thread::hardware_concurrency(), 1u, kMostAutomaticThreads);
}

}  // namespace

Result<std::unique_ptr<DonorServer>> DonorServer::start(const DonorConfig& config, std::string* problem) {
  if (config.lends_bytes < kPageBytes) {
    return Error{ErrorCode::kInvalidArgument, 0, "a donor must lend at least one page of 4096 bytes"};
  }
  if (config.donors == 0 || (config.donors > 1 && config.listen.port != 0)) {
    return Error{ErrorCode::kInvalidArgument, 0, "several donors cannot listen on one port"};
  }
  std::unique_ptr<donor::Reaper> reaper = HEC_TRY(donor::Reaper::start());
  Poller poller = HEC_TRY(Poller::create());
  WakeFlag wake = HEC_TRY(WakeFlag::create());
  HEC_TRY(poller.add(wake.fd(), EPOLLIN, kWakeToken));
  std::unique_ptr<DonorServer> server(new DonorServer(config, std::move(reaper), std::move(poller), std::move(wake)));
  if (!config.backing.empty()) {
    std::string unsaid;
    server->backing_ = HEC_TRY(donor::Backing::open(config.backing, problem ? problem : &unsaid));
  }
  HEC_TRY(server->listen(config));
  HEC_TRY(server->start_threads(config));
  return server;
}

DonorServer::DonorServer(const DonorConfig& config, std::unique_ptr<donor::Reaper> reaper, Poller poller, WakeFlag wake)
    : tls_(config.tls),
      to_plain_(plain_refusal()),
      reaper_(std::move(reaper)),
      poller_(std::move(poller)),
      wake_(std::move(wake)) {}

DonorServer::Donor::Donor(const DonorConfig& config, donor::Reaper& reaper, donor::Backing* backing, TcpListener takes)
    : state(config.lends_bytes, config.max_connections,
            {.bury = [&reaper](std::unique_ptr<donor::Region> region) { reaper.bury(std::move(region)); },
             .backing = backing,
             .grace_ns = config.grace_ms * kNsPerMs,
             .wake_at = [&reaper](int64_t at_ns) { reaper.wake_at(at_ns); }}),
      address(takes.address()),
      listener(std::move(takes)) {}

Result<void> DonorServer::Donor::listen_for_rdma(RdmaUse use) {
  if (use == RdmaUse::kOff) return {};
  Result<RdmaListener> listening = RdmaListener::listen(address);
  if (!listening.ok() && use == RdmaUse::kRequired) return listening.error();
  if (!listening.ok()) {
    event_log().info("no RDMA: {}", listening.error().describe());
    return {};
  }
  rdma.emplace(std::move(listening).value());
  serves_rdma = true;
  return {};
}

Result<std::unique_ptr<Stream>> DonorServer::Donor::next_connection() const {
  std::unique_ptr<Stream> stream = HEC_TRY(listener->accept());
  if (stream || !rdma) return stream;
  return rdma->accept();
}

Result<void> DonorServer::listen(const DonorConfig& config) {
  for (size_t i = 0; i < config.donors; ++i) {
    TcpListener listener = HEC_TRY(TcpListener::listen(config.listen));
    HEC_TRY(poller_.add(listener.fd(), EPOLLIN, i));
    donors_.push_back(std::make_unique<Donor>(config, *reaper_, backing_.get(), std::move(listener)));
    Donor& donor = *donors_.back();
    // What a host reads by itself must lie in memory.
    HEC_TRY(donor.listen_for_rdma(backing_ ? RdmaUse::kOff : config.rdma));
    if (donor.rdma) HEC_TRY(poller_.add(donor.rdma->fd(), EPOLLIN, i));
  }
  return {};
}

Result<void> DonorServer::start_threads(const DonorConfig& config) {
  reaper_->sweep_with([this] { end_lingering(); });
  donor::WorkerLimits limits{config.frame_limit_ms, config.stop_limit_ms, strangers_for(config, threads_for(config))};
  for (unsigned i = 0; i < threads_for(config); ++i) {
    workers_.push_back(HEC_TRY(donor::Worker::start(limits)));
  }
  acceptor_ = HEC_TRY(start_thread("donor-acceptor", [this] { accept_connections(); }));
  return {};
}

DonorServer::~DonorServer() {
  stop();
}

void DonorServer::stop() {
  stopping_ = true;
  wake_.raise();
  if (acceptor_.joinable()) acceptor_.join();
  for (auto& worker : workers_) worker->begin_stop();
  for (auto& worker : workers_) worker->join();
  reaper_->sweep_with({});
  for (auto& donor : donors_) donor->state.regions.end_all_lingering();
}

void DonorServer::end_lingering() {
  for (auto& donor : donors_) donor->state.regions.end_lingering();
}

void DonorServer::serve(std::unique_ptr<Stream> stream, Donor& donor) {
  if (tls_) stream = TlsStream::accept(tls_, std::move(stream), to_plain_);
  if (!stream) return;  // no memory for one more: it is closed
  // The least busy; where several are, the next in turn.
  size_t first = next_worker_++ % workers_.size();
  donor::Worker* chosen = workers_[first].get();
  for (size_t i = 1; i < workers_.size(); ++i) {
    donor::Worker* other = workers_[(first + i) % workers_.size()].get();
    if (other->connections() < chosen->connections()) chosen = other;
  }
  chosen->adopt(std::move(stream), donor.state);
}

DonorStats DonorServer::stats() const {
  DonorStats sum{};
  sum.threads = static_cast<unsigned>(workers_.size());
  for (const auto& donor : donors_) {
    donor::RegionTable::Usage usage = donor->state.regions.usage();
    sum.lends_bytes += usage.lends_bytes;
    sum.reserved_bytes += usage.reserved_bytes;
    sum.used_bytes += usage.used_bytes;
    sum.regions += usage.regions;
    sum.lingering_regions += usage.lingering_regions;
    sum.lingering_bytes += usage.lingering_bytes;
    sum.connections += donor->state.connections;
  }
  return sum;
}

void DonorServer::accept_connections() {
  std::array<epoll_event, 64> events;
  while (!stopping_) {
    bool all_taken = true;
    const size_t count = poller_.wait(events, -1);
    for (size_t i = 0; i < count && !stopping_; ++i) {
      const uint64_t token = events[i].data.u64;
      if (token != kWakeToken) all_taken = accept_waiting(*donors_[token]) && all_taken;
    }
    if (all_taken) continue;
    // Those who wait stay in the kernel's queue. Without the pause this thread would spin: the listener stays ready.
    pollfd stop{wake_.fd(), POLLIN, 0};
    poll(&stop, 1, kAcceptPauseMs);
  }
  for (auto& donor : donors_) {
    donor->listener.reset();
    donor->rdma.reset();
  }
}

bool DonorServer::accept_waiting(Donor& donor) {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    Result<std::unique_ptr<Stream>> stream = donor.next_connection();
    if (!stream.ok()) {
      warn_of(stream.error());
      return false;
    }
    if (!*stream) return true;
    if (donor.state.connections < donor.state.max_connections + kRefusedWithText) serve(std::move(*stream), donor);
  }
  return true;
}

void DonorServer::warn_of(const Error& error) {
  int64_t now = monotonic_ns();
  if (last_warning_ns_ != 0 && now - last_warning_ns_ < kWarnEveryNs) return;
  last_warning_ns_ = now;
  event_log().warn("new connections must wait: {} ({} connections served); raise the limit of open files (ulimit -n)",
                   error.describe(), stats().connections);
}

}  // namespace hecaton
