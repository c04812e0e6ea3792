#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <span>

#include "base/log.h"
#include "transport/rdma.h"
#include "transport/rdma_stream.h"
#include "transport/resolve.h"

namespace hecaton {
namespace {

// 4 us times two to this: half a second without an answer from the other device before it is asked again.
constexpr uint8_t kAnswerTimeout = 17;
constexpr int kWaitingConnections = 128;

void set_answer_timeout(rdma_cm_id* id) {
  uint8_t timeout = kAnswerTimeout;  // where the kernel does not know it, its own default is good too
  rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof timeout);
}

Result<RdmaId> create_id(rdma_event_channel* events) {
  rdma_cm_id* id = nullptr;
  if (rdma_create_id(events, &id, nullptr, RDMA_PS_TCP) != 0) return system_error("creating an RDMA connection");
  return RdmaId(id);
}

Error refused_event(const rdma_cm_event& event) {
  const int error = event.status < 0 ? -event.status : 0;
  switch (event.event) {
    case RDMA_CM_EVENT_REJECTED:
      return {ErrorCode::kUnavailable, 0, "nothing accepts RDMA connections there"};
    case RDMA_CM_EVENT_ADDR_ERROR:
      if (error == ENODEV) return {ErrorCode::kNotFound, 0, "no RDMA device of this machine reaches that address"};
      return {ErrorCode::kUnavailable, error, "finding the way to that address over RDMA"};
    default:
      return {ErrorCode::kUnavailable, error, "connecting over RDMA"};
  }
}

struct EventAck {
  void operator()(rdma_cm_event* event) const { rdma_ack_cm_event(event); }
};
using Event = std::unique_ptr<rdma_cm_event, EventAck>;

Result<Event> wait_for_event(rdma_event_channel* events, rdma_cm_event_type wanted, Deadline by) {
  for (;;) {
    rdma_cm_event* event = nullptr;
    if (rdma_get_cm_event(events, &event) == 0) {
      Event got(event);
      if (got->event != wanted) return refused_event(*got);
      return got;
    }
    if (errno != EAGAIN && errno != EINTR) return system_error("waiting for an RDMA event");
    pollfd waiting{events->fd, POLLIN, 0};
    if (poll(&waiting, 1, by.remaining_ms()) == 0) {
      return Error{ErrorCode::kTimeout, 0, "no answer to the RDMA connection attempt"};
    }
  }
}

std::span<const std::byte> private_data_of(const rdma_cm_event& event) {
  return {static_cast<const std::byte*>(event.param.conn.private_data),
          event.param.conn.private_data ? event.param.conn.private_data_len : 0u};
}

Result<std::unique_ptr<Stream>> connect_one(const addrinfo& to, Deadline by) {
  RdmaEvents events = HEC_TRY(create_rdma_events());
  rdma_event_channel* channel = events.get();
  RdmaId id = HEC_TRY(create_id(channel));
  set_answer_timeout(id.get());
  if (rdma_resolve_addr(id.get(), nullptr, to.ai_addr, by.remaining_ms()) != 0) {
    if (errno == ENODEV) return Error{ErrorCode::kNotFound, 0, "no RDMA device of this machine reaches that address"};
    return system_error("finding the way to that address over RDMA", ErrorCode::kUnavailable);
  }
  HEC_TRY(wait_for_event(channel, RDMA_CM_EVENT_ADDR_RESOLVED, by));
  if (rdma_resolve_route(id.get(), by.remaining_ms()) != 0) {
    return system_error("finding the route to that address over RDMA", ErrorCode::kUnavailable);
  }
  HEC_TRY(wait_for_event(channel, RDMA_CM_EVENT_ROUTE_RESOLVED, by));
  auto stream = HEC_TRY(RdmaStream::prepare(std::move(events), std::move(id), RdmaStream::Side::kReads));
  rdma_conn_param parameters = stream->parameters();
  if (rdma_connect(stream->id(), &parameters) != 0) {
    return system_error("connecting over RDMA", ErrorCode::kUnavailable);
  }
  Event established = HEC_TRY(wait_for_event(channel, RDMA_CM_EVENT_ESTABLISHED, by));
  const wire::RingOffer offer = HEC_TRY(wire::decode_ring_offer(private_data_of(*established)));
  HEC_TRY(stream->set_peer(offer));
  return std::unique_ptr<Stream>(std::move(stream));
}

// A request to connect, told in the listener's events, becomes a stream with events of its own.
Result<std::unique_ptr<Stream>> accept_one(RdmaId id, const wire::RingOffer& offer,
                                           std::shared_ptr<const void> ticket) {
  RdmaEvents events = HEC_TRY(create_rdma_events());
  if (rdma_migrate_id(id.get(), events.get()) != 0) return system_error("accepting an RDMA connection");
  set_answer_timeout(id.get());
  auto stream = HEC_TRY(RdmaStream::prepare(std::move(events), std::move(id), RdmaStream::Side::kIsRead));
  HEC_TRY(stream->set_peer(offer));
  stream->hold(std::move(ticket));
  rdma_conn_param parameters = stream->parameters();
  if (rdma_accept(stream->id(), &parameters) != 0) return system_error("accepting an RDMA connection");
  return std::unique_ptr<Stream>(std::move(stream));
}

bool is_any_address(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr == htonl(INADDR_ANY);
  }
  return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

}  // namespace

std::vector<std::string> rdma_devices() {
  std::vector<std::string> names;
  int count = 0;
  ibv_device** devices = ibv_get_device_list(&count);
  for (int i = 0; devices && i < count; ++i) names.emplace_back(ibv_get_device_name(devices[i]));
  if (devices) ibv_free_device_list(devices);
  return names;
}

std::optional<RdmaProblem> rdma_problem() {
  std::error_code ignored;
  if (std::filesystem::is_empty("/sys/class/infiniband", ignored) || ignored) {
    return RdmaProblem{"this machine has no RDMA device (/sys/class/infiniband is empty)",
                       "load the driver of its RDMA card, or make a device of any network interface: modprobe rdma_rxe "
                       "&& rdma link add rxe0 type rxe netdev INTERFACE",
                       false};
  }
  if (rdma_devices().empty()) {
    return RdmaProblem{"this machine's RDMA device has no driver for programs", "apt install ibverbs-providers", true};
  }
  if (access("/dev/infiniband/rdma_cm", R_OK | W_OK) != 0) {
    return RdmaProblem{"/dev/infiniband/rdma_cm is not there, or may not be opened", "modprobe rdma_ucm", true};
  }
  return std::nullopt;
}

Result<std::unique_ptr<Stream>> connect_rdma(const NodeUrl& to, Deadline by) {
  if (auto problem = rdma_problem()) return Error{ErrorCode::kNotFound, 0, problem->missing};
  AddressList addresses = HEC_TRY(resolve(to, false));
  Error last{ErrorCode::kUnavailable, 0, "the host has no address"};
  for (const addrinfo* address = addresses.first; address; address = address->ai_next) {
    Result<std::unique_ptr<Stream>> stream = connect_one(*address, by);
    if (stream.ok()) return stream;
    last = stream.error();
  }
  return last;
}

Result<RdmaListener> RdmaListener::listen(const NodeUrl& at) {
  // A loopback address would bind to any device, which then might serve the network that it is on.
  constexpr Error kNoDevice{ErrorCode::kNotFound, 0, "that address is not one of an RDMA device"};
  if (auto problem = rdma_problem()) return Error{ErrorCode::kNotFound, 0, problem->missing};
  if (at.is_loopback()) return kNoDevice;
  AddressList addresses = HEC_TRY(resolve(at, true));
  const sockaddr& address = *addresses.first->ai_addr;
  RdmaEvents events = HEC_TRY(create_rdma_events());
  RdmaId id = HEC_TRY(create_id(events.get()));
  const int bound = rdma_bind_addr(id.get(), const_cast<sockaddr*>(&address));
  const bool no_such_device = bound != 0 && (errno == ENODEV || errno == EADDRNOTAVAIL);
  if (no_such_device || (bound == 0 && !id->verbs && !is_any_address(address))) return kNoDevice;
  if (bound != 0) return system_error("binding the address for RDMA");
  if (rdma_listen(id.get(), kWaitingConnections) != 0) return system_error("listening for RDMA connections");
  return RdmaListener(std::move(events), std::move(id));
}

Result<std::unique_ptr<Stream>> RdmaListener::accept() const {
  for (;;) {
    rdma_cm_event* event = nullptr;
    if (rdma_get_cm_event(events_.get(), &event) != 0) {
      if (errno == EAGAIN || errno == EINTR) return std::unique_ptr<Stream>();
      return system_error("waiting for RDMA connections");
    }
    Event got(event);
    if (got->event != RDMA_CM_EVENT_CONNECT_REQUEST) continue;
    RdmaId id(got->id);
    Result<wire::RingOffer> offer = wire::decode_ring_offer(private_data_of(*got));
    got.reset();  // before the id can move to other events
    const bool full = tickets_.use_count() > kMostConnections;
    if (offer.ok() && !full) return accept_one(std::move(id), *offer, tickets_);
    event_log().info("RDMA connection refused: {}", full ? "too many at once" : offer.error().context);
    rdma_reject(id.get(), nullptr, 0);
  }
}

}  // namespace hecaton
