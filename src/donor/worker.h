// A thread that serves a donor's connections: the socket loop around Session.
//
// Connections, of one donor or of several, are handed to it, and stay with it until they end. All of its state but the
// letterbox belongs to its thread. Demand connections go first in every round of events.
#pragma once

#include <array>
#include <atomic>
#include <list>
#include <memory>
#include <thread>
#include <vector>

#include "base/adaptive_spin.h"
#include "base/guarded.h"
#include "donor/next_speaker.h"
#include "donor/session.h"
#include "os/poller.h"
#include "transport/stream.h"

namespace hecaton::donor {

struct WorkerLimits {
  int64_t frame_ms;  // for the hello, and for the rest of a frame
  int64_t stop_ms;   // for replies in flight when it is stopped
  // Connections that have not said hello, all proofs before it done: beyond that many, the one that came first ends.
  size_t strangers;
};

class Worker {
 public:
  static Result<std::unique_ptr<Worker>> start(WorkerLimits limits);
  ~Worker();  // stops and joins

  // Any thread. `donor`, whose connection it is, must outlive it.
  void adopt(std::unique_ptr<Stream> stream, DonorState& donor);
  size_t connections() const { return connections_; }
  // Any thread: tells it to send what is in flight, close everything and end; join() waits for that.
  void begin_stop();
  void join();

 private:
  struct Connection;
  struct Letter {
    std::unique_ptr<Stream> stream;
    DonorState* donor;
  };
  static constexpr size_t kScratchBytes = 64 * 1024;

  Worker(WorkerLimits limits, Poller poller, WakeFlag wake);
  void run();
  bool finished() const;
  int wait_ms() const;
  bool serve_guessed();
  bool serve_unread();
  void step_aside();
  void serve_events(size_t count);
  void serve(Connection& connection, uint32_t events);
  void receive(Connection& connection);
  void settle(Connection& connection);
  void begin_ending(Connection& connection);
  void discard_input(Connection& connection);
  void set_deadline(Connection& connection);
  void arm(Connection& connection, int64_t ms);
  void take_letters();
  bool add(Letter letter);
  void drop(Connection& connection);
  void drop_oldest_stranger();
  void stop_serving();
  void enforce_deadlines();
  int64_t check_interval_ns() const;

  const WorkerLimits limits_;
  Poller poller_;
  WakeFlag wake_;
  Guarded<std::vector<Letter>> letters_;
  std::atomic<bool> stop_asked_{false};
  std::atomic<size_t> connections_{0};

  std::vector<std::unique_ptr<Connection>> slots_;  // token of a connection: its slot + 1
  std::vector<size_t> free_slots_;
  std::array<epoll_event, 256> events_;
  AdaptiveSpin spin_;
  uint64_t spins_ = 0;
  int64_t next_aside_ns_ = 0;
  std::list<size_t> strangers_;         // slots; the first came first
  std::vector<size_t> unread_, again_;  // slots of connections whose streams hold bytes that no event will tell of
  NextSpeaker next_speaker_;            // slots
  std::unique_ptr<std::byte[]> scratch_;
  bool stopping_ = false;
  bool deadlines_ = false;  // some connection may have one
  int64_t next_check_ns_ = 0;
  int64_t stop_by_ns_ = 0;
  std::thread thread_;
};

}  // namespace hecaton::donor
