#include "donor/server.h"

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "base/log.h"
#include "donor/thread.h"

namespace hecaton {
namespace {

constexpr uint64_t kListenerToken = 1;
constexpr uint64_t kWakeToken = 2;
constexpr uint64_t kRdmaToken = 3;
constexpr unsigned kMostAutomaticThreads = 16;
constexpr int kAcceptsPerTurn = 64;
constexpr int kAcceptPauseMs = 100;
constexpr int64_t kWarnEveryNs = 10'000'000'000;
// Connections beyond the most that still get an answer, a refusal, before more are closed without one.
constexpr uint64_t kRefusedWithText = 64;

unsigned threads_for(const DonorConfig& config) {
  if (config.threads != 0) return config.threads;
  return std::clamp(std::thread::hardware_concurrency(), 1u, kMostAutomaticThreads);
}

}  // namespace

Result<std::unique_ptr<DonorServer>> DonorServer::start(const DonorConfig& config) {
  if (config.lends_bytes < kPageBytes) {
    return Error{ErrorCode::kInvalidArgument, 0, "a donor must lend at least one page of 4096 bytes"};
  }
  TcpListener listener = HEC_TRY(TcpListener::listen(config.listen));
  std::unique_ptr<donor::Reaper> reaper = HEC_TRY(donor::Reaper::start());
  Poller poller = HEC_TRY(Poller::create());
  WakeFlag wake = HEC_TRY(WakeFlag::create());
  HEC_TRY(poller.add(listener.fd(), EPOLLIN, kListenerToken));
  HEC_TRY(poller.add(wake.fd(), EPOLLIN, kWakeToken));
  std::unique_ptr<DonorServer> server(
      new DonorServer(config, std::move(reaper), std::move(listener), std::move(poller), std::move(wake)));
  HEC_TRY(server->listen_for_rdma(config.rdma));
  HEC_TRY(server->start_threads(config));
  return server;
}

Result<void> DonorServer::listen_for_rdma(RdmaUse use) {
  if (use == RdmaUse::kOff) return {};
  Result<RdmaListener> rdma = RdmaListener::listen(address_);
  if (!rdma.ok() && use == RdmaUse::kRequired) return rdma.error();
  if (!rdma.ok()) {
    event_log().info("no RDMA: {}", rdma.error().describe());
    return {};
  }
  rdma_.emplace(std::move(rdma).value());
  serves_rdma_ = true;
  return poller_.add(rdma_->fd(), EPOLLIN, kRdmaToken);
}

DonorServer::DonorServer(const DonorConfig& config, std::unique_ptr<donor::Reaper> reaper, TcpListener listener,
                         Poller poller, WakeFlag wake)
    : reaper_(std::move(reaper)),
      state_(config.lends_bytes, config.max_connections,
             [this](std::unique_ptr<donor::Region> region) { reaper_->bury(std::move(region)); }),
      address_(listener.address()),
      listener_(std::move(listener)),
      poller_(std::move(poller)),
      wake_(std::move(wake)) {}

Result<void> DonorServer::start_threads(const DonorConfig& config) {
  donor::WorkerLimits limits{config.frame_limit_ms, config.stop_limit_ms};
  for (unsigned i = 0; i < threads_for(config); ++i) {
    workers_.push_back(HEC_TRY(donor::Worker::start(state_, limits)));
  }
  acceptor_ = HEC_TRY(donor::start_thread("donor-acceptor", [this] { accept_connections(); }));
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
}

void DonorServer::serve(std::unique_ptr<Stream> stream) {
  // The least busy; where several are, the next in turn.
  size_t first = next_worker_++ % workers_.size();
  donor::Worker* chosen = workers_[first].get();
  for (size_t i = 1; i < workers_.size(); ++i) {
    donor::Worker* other = workers_[(first + i) % workers_.size()].get();
    if (other->connections() < chosen->connections()) chosen = other;
  }
  chosen->adopt(std::move(stream));
}

DonorStats DonorServer::stats() const {
  donor::RegionTable::Usage usage = state_.regions.usage();
  return {usage.lends_bytes, usage.reserved_bytes, usage.used_bytes,
          usage.regions,     state_.connections,   static_cast<unsigned>(workers_.size())};
}

void DonorServer::accept_connections() {
  std::array<epoll_event, 3> events;
  bool paused = false;
  while (!stopping_) {
    size_t count = poller_.wait(events, paused ? kAcceptPauseMs : -1);
    if (stopping_) break;
    if (paused) {
      paused = !watch_listeners(EPOLLIN).ok();
    } else if (count > 0 && !accept_waiting()) {
      // Those who wait stay in the kernel's queue. Without the pause this thread would spin: the listener stays ready.
      paused = watch_listeners(0).ok();
    }
  }
  listener_.reset();
  rdma_.reset();
}

Result<void> DonorServer::watch_listeners(uint32_t events) {
  if (rdma_) HEC_TRY(poller_.modify(rdma_->fd(), events, kRdmaToken));
  return poller_.modify(listener_->fd(), events, kListenerToken);
}

Result<std::unique_ptr<Stream>> DonorServer::next_connection() {
  std::unique_ptr<Stream> stream = HEC_TRY(listener_->accept());
  if (stream || !rdma_) return stream;
  return rdma_->accept();
}

bool DonorServer::accept_waiting() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    Result<std::unique_ptr<Stream>> stream = next_connection();
    if (!stream.ok()) {
      warn_of(stream.error());
      return false;
    }
    if (!*stream) return true;
    if (state_.connections < state_.max_connections + kRefusedWithText) serve(std::move(*stream));
  }
  return true;
}

void DonorServer::warn_of(const Error& error) {
  int64_t now = monotonic_ns();
  if (last_warning_ns_ != 0 && now - last_warning_ns_ < kWarnEveryNs) return;
  last_warning_ns_ = now;
  event_log().warn("new connections must wait: {} ({} connections served); raise the limit of open files (ulimit -n)",
                   error.describe(), state_.connections.load());
}

}  // namespace hecaton
