#include "bench/limits.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>

#include "base/clock.h"
#include "base/units.h"
#include "base/yield_spin.h"
#include "os/memory.h"
#include "os/scheduling.h"
#include "os/userfaultfd.h"
#include "transport/stream.h"
#include "wire/frame.h"

namespace hecaton::bench {
namespace {

// Where a raw fault is handled: on the processor of the thread that faults, where it sleeps until there is a fault; or
// on another one, never sleeping.
enum class Handler { kBeside, kSpinning };

void serve_faults(const Userfaultfd& uffd, const std::byte* page, Handler handler, std::atomic<bool>& stop) {
  std::array<FaultEvent, 16> events;
  while (!stop.load(std::memory_order_relaxed)) {  // a plain flag: nothing is ordered by it
    pollfd waiting{uffd.fd(), POLLIN, 0};
    if (handler == Handler::kBeside) poll(&waiting, 1, 10);
    Result<size_t> count = uffd.read_events(events);
    for (size_t i = 0; count.ok() && i < *count; ++i) {
      uffd.copy(RemoteAddress{events[i].address}, page, kPageBytes, false);
    }
  }
}

Result<Quantiles> raw_faults(size_t rounds, Handler handler) {
  const size_t bytes = rounds * kPageBytes;
  OwnedFd memfd = HEC_TRY(create_memfd("hecaton-bench", bytes));
  Mapping view = HEC_TRY(Mapping::shared(memfd.get(), bytes));
  Mapping source = HEC_TRY(Mapping::sparse(kPageBytes));
  source.data()[0] = std::byte{7};
  Userfaultfd uffd = HEC_TRY(Userfaultfd::create());
  HEC_TRY(uffd.register_range(RemoteAddress{reinterpret_cast<uint64_t>(view.data())}, bytes));
  std::atomic<bool> stop{false};
  std::vector<int64_t> samples;
  const auto [own, other] = two_processors();
  std::thread server([&, here = handler == Handler::kBeside ? own : other] {
    (void)run_only_on(here);
    serve_faults(uffd, source.data(), handler, stop);
  });
  std::thread reader([&, here = own] {
    (void)run_only_on(here);
    for (size_t i = 0; i < rounds; ++i) {
      volatile std::byte* at = view.data() + i * kPageBytes;
      int64_t start = monotonic_ns();
      (void)*at;
      samples.push_back(monotonic_ns() - start);
    }
  });
  reader.join();
  stop.store(true);
  server.join();
  return quantiles_of(samples);
}

// How a thread waits for its stream: spinning on a processor of its own; or on one that it shares, with yields while
// these are quick. Beside a busy thread, of whatever process, a yield takes a whole slice: then it sleeps.
class Waiting {
 public:
  enum class On { kOwnProcessor, kSharedProcessor };
  explicit Waiting(On on) : on_(on) {}

  void wait(const Stream& stream, short events) {
    if (on_ == On::kOwnProcessor) return;
    const int64_t start = monotonic_ns();
    if (yields_.may(start)) {
      sched_yield();
      const int64_t now = monotonic_ns();
      yields_.yielded(now - start, now);
      return;
    }
    pollfd waiting{stream.fd(), events, 0};
    poll(&waiting, 1, 10);  // it may be told to stop
  }

 private:
  const On on_;
  YieldSpin yields_;
};

// Moves exactly `bytes` through a non-blocking stream. False: closed, or told to stop.
template <typename Move>
bool move_all(size_t bytes, std::atomic<bool>& stop, const Stream& stream, short events, Waiting& waiting, Move move) {
  for (size_t done = 0; done < bytes;) {
    IoResult result = move(done);
    if (result.kind == IoResult::Kind::kClosed || stop.load(std::memory_order_relaxed)) return false;
    if (result.kind == IoResult::Kind::kBytes) done += result.bytes;
    if (result.kind == IoResult::Kind::kWouldBlock) waiting.wait(stream, events);
  }
  return true;
}

bool send_whole(Stream& stream, std::vector<std::byte>& bytes, std::atomic<bool>& stop, Waiting& waiting) {
  return move_all(bytes.size(), stop, stream, POLLOUT, waiting, [&](size_t done) {
    iovec piece{bytes.data() + done, bytes.size() - done};
    return stream.send(std::span(&piece, 1));
  });
}

bool receive_whole(Stream& stream, std::vector<std::byte>& bytes, std::atomic<bool>& stop, Waiting& waiting) {
  return move_all(bytes.size(), stop, stream, POLLIN, waiting,
                  [&](size_t done) { return stream.receive(std::span(bytes).subspan(done)); });
}

struct TcpPair {
  std::unique_ptr<Stream> client, server;
};

Result<TcpPair> connect_to_ourselves() {
  TcpListener listener = HEC_TRY(TcpListener::listen(NodeUrl{.token = {}, .host = "127.0.0.1", .port = 0}));
  TcpPair pair;
  pair.client = HEC_TRY(connect_tcp(listener.address(), Deadline::after_ms(2000)));
  for (Deadline by = Deadline::after_ms(2000); !pair.server;) {
    pair.server = HEC_TRY(listener.accept());
    if (!pair.server && by.passed()) return Error{ErrorCode::kTimeout, 0, "connecting to ourselves over loopback"};
  }
  return pair;
}

void make_blocking(const Stream& stream) {
  fcntl(stream.fd(), F_SETFL, fcntl(stream.fd(), F_GETFL) & ~O_NONBLOCK);
}

}  // namespace

std::pair<unsigned, unsigned> two_processors() {
  const std::vector<unsigned> usable = usable_processors();
  if (usable.empty()) return {0, 0};
  return {usable.front(), usable.back()};
}

Quantiles quantiles_of(std::vector<int64_t>& samples_ns) {
  if (samples_ns.empty()) return {};
  std::sort(samples_ns.begin(), samples_ns.end());
  auto at = [&](double fraction) {
    return static_cast<double>(samples_ns[static_cast<size_t>(fraction * static_cast<double>(samples_ns.size() - 1))]) /
           1000;
  };
  Quantiles quantiles{at(0.5), at(0.9), at(0.99), {}};
  for (int percent = 0; percent < 100; ++percent) quantiles.percentiles_us.push_back(at(percent / 100.0));
  return quantiles;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Quantiles median(const std::vector<Quantiles>& repeats) {
  auto over_repeats = [&](auto value_of) {
    std::vector<double> values;
    for (const Quantiles& repeat : repeats) values.push_back(value_of(repeat));
    return median(std::move(values));
  };
  Quantiles middle{over_repeats([](const Quantiles& q) { return q.p50_us; }),
                   over_repeats([](const Quantiles& q) { return q.p90_us; }),
                   over_repeats([](const Quantiles& q) { return q.p99_us; }),
                   {}};
  const size_t points = repeats.empty() ? 0 : repeats.front().percentiles_us.size();
  for (size_t i = 0; i < points; ++i) {
    middle.percentiles_us.push_back(over_repeats([i](const Quantiles& q) { return q.percentiles_us[i]; }));
  }
  return middle;
}

Result<Quantiles> measure_raw_fault(size_t rounds) {
  Quantiles beside = HEC_TRY(raw_faults(rounds, Handler::kBeside));
  if (usable_processors().size() < 2) return beside;
  Quantiles spinning = HEC_TRY(raw_faults(rounds, Handler::kSpinning));
  return beside.p50_us <= spinning.p50_us ? beside : spinning;
}

const char* how_both_ends_wait() {
  const auto [own, other] = two_processors();
  return own == other ? "both ends on the only processor, yielding or asleep while they wait"
                      : "both ends spinning on processors of their own";
}

Result<Quantiles> measure_raw_tcp(size_t rounds) {
  return measure_raw_exchange(kReadRequestBytes, kReadReplyBytes, rounds);
}

Result<Quantiles> measure_raw_exchange(size_t request_bytes, size_t reply_bytes, size_t rounds) {
  TcpPair pair = HEC_TRY(connect_to_ourselves());
  std::atomic<bool> stop{false};
  std::vector<int64_t> samples;
  const auto [own, other] = two_processors();
  const auto on = own == other ? Waiting::On::kSharedProcessor : Waiting::On::kOwnProcessor;
  std::thread server([&, here = other] {
    (void)run_only_on(here);
    Waiting waiting(on);
    std::vector<std::byte> request(request_bytes), reply(reply_bytes);
    while (receive_whole(*pair.server, request, stop, waiting) && send_whole(*pair.server, reply, stop, waiting)) {
    }
  });
  std::thread client([&, here = own] {
    (void)run_only_on(here);
    Waiting waiting(on);
    std::vector<std::byte> request(request_bytes), reply(reply_bytes);
    for (size_t i = 0; i < rounds; ++i) {
      int64_t start = monotonic_ns();
      if (!send_whole(*pair.client, request, stop, waiting)) break;
      if (!receive_whole(*pair.client, reply, stop, waiting)) break;
      samples.push_back(monotonic_ns() - start);
    }
    stop.store(true);
  });
  client.join();
  server.join();
  return quantiles_of(samples);
}

Result<Quantiles> measure_raw_fan_out(size_t peers, size_t bytes, size_t rounds) {
  std::vector<TcpPair> pairs;
  for (size_t i = 0; i < peers; ++i) pairs.push_back(HEC_TRY(connect_to_ourselves()));
  std::atomic<bool> stop{false};
  const std::vector<unsigned> processors = usable_processors();
  auto sit = [&](size_t number) {
    if (!processors.empty()) (void)run_only_on(processors[number % processors.size()]);
  };
  std::vector<std::thread> servers;
  for (size_t i = 0; i < peers; ++i) {
    servers.emplace_back([&, i] {
      sit(i + 1);
      Waiting waiting(Waiting::On::kSharedProcessor);
      std::vector<std::byte> message(bytes);
      Stream& stream = *pairs[i].server;
      while (receive_whole(stream, message, stop, waiting) && send_whole(stream, message, stop, waiting)) {
      }
    });
  }
  std::vector<int64_t> samples;
  std::thread client([&] {
    sit(0);
    Waiting waiting(Waiting::On::kSharedProcessor);
    std::vector<std::byte> message(bytes);
    for (size_t round = 0; round < rounds; ++round) {
      const int64_t start = monotonic_ns();
      for (TcpPair& pair : pairs) send_whole(*pair.client, message, stop, waiting);
      for (TcpPair& pair : pairs) receive_whole(*pair.client, message, stop, waiting);
      samples.push_back(monotonic_ns() - start);
    }
    stop.store(true);
  });
  client.join();
  for (std::thread& server : servers) server.join();
  return quantiles_of(samples);
}

Quantiles measure_aes(size_t rounds) {
  std::array<unsigned char, kPageBytes> page{};
  std::array<unsigned char, 16> key{}, tag{};
  std::array<unsigned char, 12> nonce{};
  std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  EVP_EncryptInit_ex(context.get(), EVP_aes_128_gcm(), nullptr, key.data(), nullptr);
  std::vector<int64_t> samples;
  for (size_t round = 0; round < rounds; ++round) {
    std::memcpy(nonce.data(), &round, sizeof round);
    int length = 0;
    const int64_t start = monotonic_ns();
    EVP_EncryptInit_ex(context.get(), nullptr, nullptr, nullptr, nonce.data());
    EVP_EncryptUpdate(context.get(), page.data(), &length, page.data(), static_cast<int>(page.size()));
    EVP_EncryptFinal_ex(context.get(), tag.data(), &length);
    EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, static_cast<int>(tag.size()), tag.data());
    samples.push_back(monotonic_ns() - start);
  }
  return quantiles_of(samples);
}

Result<double> measure_raw_stream(size_t buffer_bytes, uint64_t bytes) {
  TcpPair pair = HEC_TRY(connect_to_ourselves());
  make_blocking(*pair.client);
  make_blocking(*pair.server);
  std::vector<std::byte> outgoing(buffer_bytes, std::byte{7}), incoming(buffer_bytes, std::byte{0});
  int64_t start = 0;
  std::thread sender([&] {
    for (uint64_t left = bytes; left > 0;) {
      ssize_t sent = send(pair.server->fd(), outgoing.data(), std::min<uint64_t>(left, buffer_bytes), MSG_NOSIGNAL);
      if (sent <= 0) return;
      left -= static_cast<uint64_t>(sent);
    }
  });
  uint64_t received = 0;
  while (received < bytes) {
    ssize_t got = recv(pair.client->fd(), incoming.data(), incoming.size(), 0);
    if (got <= 0) break;
    if (start == 0) start = monotonic_ns();
    received += static_cast<uint64_t>(got);
  }
  const int64_t took = monotonic_ns() - start;
  shutdown(pair.client->fd(), SHUT_RDWR);  // if it broke, the sender must not wait for us
  sender.join();
  if (received < bytes || took <= 0) return Error{ErrorCode::kClosed, 0, "a TCP stream to ourselves ended early"};
  return static_cast<double>(received) / static_cast<double>(took);
}

}  // namespace hecaton::bench
