#include "cli/bench_limits.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "base/clock.h"
#include "base/units.h"
#include "os/memory.h"
#include "os/userfaultfd.h"
#include "transport/stream.h"
#include "wire/frame.h"

namespace hecaton::cli {
namespace {

constexpr size_t kRequestBytes = wire::kHeaderBytes + wire::read_request_bytes(1);
constexpr size_t kReplyBytes = wire::kHeaderBytes + wire::page_set_head_bytes(1) + kPageBytes;

void serve_faults(const Userfaultfd& uffd, const std::byte* page, std::atomic<bool>& stop) {
  std::array<FaultEvent, 16> events;
  while (!stop.load(std::memory_order_relaxed)) {  // a plain flag: nothing is ordered by it
    Result<size_t> count = uffd.read_events(events);
    for (size_t i = 0; count.ok() && i < *count; ++i) {
      uffd.copy(RemoteAddress{events[i].address}, page, kPageBytes, false);
    }
  }
}

// Moves exactly `bytes` through a non-blocking stream without ever sleeping. False: closed, or told to stop.
template <typename Move>
bool spin(size_t bytes, std::atomic<bool>& stop, Move move) {
  for (size_t done = 0; done < bytes;) {
    IoResult result = move(done);
    if (result.kind == IoResult::Kind::kClosed || stop.load(std::memory_order_relaxed)) return false;
    if (result.kind == IoResult::Kind::kBytes) done += result.bytes;
  }
  return true;
}

bool spin_send(Stream& stream, std::vector<std::byte>& bytes, std::atomic<bool>& stop) {
  return spin(bytes.size(), stop, [&](size_t done) {
    iovec piece{bytes.data() + done, bytes.size() - done};
    return stream.send(std::span(&piece, 1));
  });
}

bool spin_receive(Stream& stream, std::vector<std::byte>& bytes, std::atomic<bool>& stop) {
  return spin(bytes.size(), stop, [&](size_t done) { return stream.receive(std::span(bytes).subspan(done)); });
}

}  // namespace

Quantiles quantiles_of(std::vector<int64_t>& samples_ns) {
  if (samples_ns.empty()) return {};
  std::sort(samples_ns.begin(), samples_ns.end());
  auto at = [&](double fraction) {
    return static_cast<double>(samples_ns[static_cast<size_t>(fraction * static_cast<double>(samples_ns.size() - 1))]) /
           1000;
  };
  return {at(0.5), at(0.9), at(0.99)};
}

Result<Quantiles> measure_raw_fault(size_t rounds) {
  const size_t bytes = rounds * kPageBytes;
  OwnedFd memfd = HEC_TRY(create_memfd("hecaton-bench", bytes));
  Mapping view = HEC_TRY(Mapping::shared(memfd.get(), bytes));
  Mapping source = HEC_TRY(Mapping::sparse(kPageBytes));
  source.data()[0] = std::byte{7};
  Userfaultfd uffd = HEC_TRY(Userfaultfd::create());
  HEC_TRY(uffd.register_range(RemoteAddress{reinterpret_cast<uint64_t>(view.data())}, bytes));
  std::atomic<bool> stop{false};
  std::thread server([&] { serve_faults(uffd, source.data(), stop); });
  std::vector<int64_t> samples;
  for (size_t i = 0; i < rounds; ++i) {
    volatile std::byte* at = view.data() + i * kPageBytes;
    int64_t start = monotonic_ns();
    (void)*at;
    samples.push_back(monotonic_ns() - start);
  }
  stop.store(true);
  server.join();
  return quantiles_of(samples);
}

Result<Quantiles> measure_raw_tcp(size_t rounds) {
  TcpListener listener = HEC_TRY(TcpListener::listen(NodeUrl{.token = {}, .host = "127.0.0.1", .port = 0}));
  std::unique_ptr<Stream> client = HEC_TRY(connect_tcp(listener.address(), Deadline::after_ms(2000)));
  std::unique_ptr<Stream> server_end;
  for (Deadline by = Deadline::after_ms(2000); !server_end;) {
    server_end = HEC_TRY(listener.accept());
    if (!server_end && by.passed()) return Error{ErrorCode::kTimeout, 0, "connecting to ourselves over loopback"};
  }
  std::atomic<bool> stop{false};
  std::thread server([&] {
    std::vector<std::byte> request(kRequestBytes), reply(kReplyBytes);
    while (spin_receive(*server_end, request, stop) && spin_send(*server_end, reply, stop)) {
    }
  });
  std::vector<std::byte> request(kRequestBytes), reply(kReplyBytes);
  std::vector<int64_t> samples;
  for (size_t i = 0; i < rounds; ++i) {
    int64_t start = monotonic_ns();
    if (!spin_send(*client, request, stop) || !spin_receive(*client, reply, stop)) break;
    samples.push_back(monotonic_ns() - start);
  }
  stop.store(true);
  server.join();
  return quantiles_of(samples);
}

}  // namespace hecaton::cli
