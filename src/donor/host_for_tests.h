// For tests: a host's side of a connection to a donor, blocking.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <thread>

#include "donor/frames_for_tests.h"
#include "transport/stream.h"

namespace hecaton::donor {

inline constexpr int64_t kPatienceMs = 60'000;  // far beyond what anything takes; nothing waits for it to pass

class Host {
 public:
  explicit Host(std::unique_ptr<Stream> stream) : stream_(std::move(stream)) {}
  explicit Host(const NodeUrl& donor) : Host(connect_tcp(donor, Deadline::after_ms(kPatienceMs)).value()) {}

  Result<void> say(const Bytes& bytes) { return send_all(*stream_, bytes, Deadline::after_ms(kPatienceMs)); }
  Result<Reply> reply() {
    Deadline by = Deadline::after_ms(kPatienceMs);
    std::array<std::byte, wire::kHeaderBytes> header;
    HEC_TRY(receive_all(*stream_, header, by));
    Reply reply{HEC_TRY(wire::decode_header(header)), {}};
    reply.body.resize(reply.header.body_bytes);
    cut_short_ = true;
    HEC_TRY(receive_all(*stream_, reply.body, by));
    cut_short_ = false;
    return reply;
  }
  Reply ask(const Bytes& bytes) {
    EXPECT_TRUE(say(bytes).ok());
    Result<Reply> answer = reply();
    EXPECT_TRUE(answer.ok()) << (answer.ok() ? "" : answer.error().describe());
    return answer.ok() ? std::move(answer).value() : Reply{};
  }
  // Whether the donor closes the connection without another byte.
  bool is_closed() {
    std::byte one;
    Result<void> got = receive_all(*stream_, std::span(&one, 1), Deadline::after_ms(kPatienceMs));
    return !got.ok() && got.error().code == ErrorCode::kClosed;
  }
  void open(const std::string& name, uint64_t instance = 7) {
    EXPECT_EQ(ask(hello_frame(instance)).status(), wire::Status::kOk);
    EXPECT_EQ(ask(open_frame(region_named(name, 64_MiB, 8_MiB))).status(), wire::Status::kOk);
  }
  // The connection ended within the body of a reply.
  bool cut_short() const { return cut_short_; }
  int fd() const { return stream_->fd(); }
  Stream& stream() { return *stream_; }

 private:
  bool cut_short_ = false;
  std::unique_ptr<Stream> stream_;
};

// Returns once `condition` holds.
template <typename Condition>
inline void eventually(Condition condition) {
  Deadline by = Deadline::after_ms(kPatienceMs);
  while (!condition()) {
    ASSERT_FALSE(by.passed());
    std::this_thread::yield();
  }
}

}  // namespace hecaton::donor
