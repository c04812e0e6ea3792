// The side of RdmaStream that faces its descriptors: when it can sleep, and what wakes it.
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>

#include "base/clock.h"
#include "transport/rdma_stream.h"

namespace hecaton {
namespace {

// Descriptors that are seldom ready are looked at this often while there is nothing else to do.
constexpr int64_t kLookEveryNs = 1'000'000;
// A peer whose machine vanished is noticed on an idle connection too: a probe every so often, which the device repeats
// eight times, half a second apart, before it gives up.
constexpr int kProbeSeconds = 5;

constexpr uint64_t kDeviceToken = 1, kConnectionToken = 2, kTimerToken = 3, kLeftoverToken = 4;

}  // namespace

Result<void> RdmaStream::watch_descriptors() {
  HEC_TRY(ready_.add(completions_->fd, EPOLLIN, kDeviceToken));
  HEC_TRY(ready_.add(events_->fd, EPOLLIN, kConnectionToken));
  HEC_TRY(ready_.add(timer_.get(), EPOLLIN, kTimerToken));
  return ready_.add(leftover_.fd(), EPOLLIN, kLeftoverToken);
}

Result<void> RdmaStream::start_timer() {
  itimerspec every{{kProbeSeconds, 0}, {kProbeSeconds, 0}};
  if (timerfd_settime(timer_.get(), 0, &every, nullptr) != 0) return system_error("timerfd_settime");
  return {};
}

// Nothing is there. Makes sure that fd() tells of what comes, and looks at what comes seldom.
void RdmaStream::settle() {
  if (event_due_) take_device_event();
  const int64_t now = monotonic_ns();
  if (now - looked_ns_ < kLookEveryNs) return;
  looked_ns_ = now;
  look_at_descriptors();
}

void RdmaStream::take_device_event() {
  event_due_ = false;
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  // None yet: the device is between a completion and its event. The event makes fd() ready, and is taken later.
  if (ibv_get_cq_event(completions_.get(), &queue, &context) != 0) return;
  ibv_ack_cq_events(queue, 1);
  if (ibv_req_notify_cq(queue_.get(), 0) != 0) closed_ = true;
  poll_device();  // what was finished before it was asked to notify
}

void RdmaStream::look_at_descriptors() {
  std::array<epoll_event, 4> events;
  const size_t count = ready_.wait(events, 0);
  for (size_t i = 0; i < count; ++i) {
    switch (events[i].data.u64) {
      case kDeviceToken:
        take_device_event();
        break;
      case kConnectionToken:
        handle_connection_events();
        break;
      case kTimerToken:
        probe_peer();
        break;
      default:
        break;
    }
  }
}

void RdmaStream::handle_connection_events() {
  rdma_cm_event* event = nullptr;
  while (rdma_get_cm_event(events_.get(), &event) == 0) {
    const rdma_cm_event_type type = event->event;
    rdma_ack_cm_event(event);
    if (type == RDMA_CM_EVENT_ESTABLISHED || type == RDMA_CM_EVENT_ADDR_CHANGE) continue;
    poll_device();  // what the peer said before it hung up
    closed_ = true;
  }
}

// An empty write: the peer's device answers it, its programs do not notice.
void RdmaStream::probe_peer() {
  uint64_t times;
  [[maybe_unused]] ssize_t got = ::read(timer_.get(), &times, sizeof times);
  if (probing_ || closed_) return;
  ibv_send_wr probe{};
  probe.wr_id = number_of(Work::kProbe);
  probe.opcode = IBV_WR_RDMA_WRITE;
  probe.wr.rdma = {peer_.address, peer_.key};
  post(probe);
  probing_ = true;
}

}  // namespace hecaton
