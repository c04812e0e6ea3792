// Keeps a pager serving a guest: starts the process, and another one when it dies or hangs. The new one takes over from
// the state memory and the descriptors that are kept here; the guest sleeps meanwhile.
//
//   start ──▶ Starting ── ready ──▶ Ready ── attach ──▶ Serving ── death, silence ──▶ Starting (attach follows ready)
//                │ failed, a deadline                        │ too many deaths in kDeathsNs
//                └───────────────▶ on_end(exit status, why) ◀┘
//
// One thread.
#pragma once

#include <deque>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/control.h"
#include "os/owned_fd.h"
#include "os/process.h"
#include "pager/state_memory.h"

namespace hecaton::cli {

// What a pager needs beside its configuration: all of it outlives any pager.
struct PagerBelongings {
  OwnedFd memory;  // the guest's RAM
  OwnedFd state;   // the state memory
  OwnedFd listen;  // the socket in the VM's folder
  OwnedFd
      donor_line;  // while somebody has it open the VM's own donor lives, embedded or for spilling; none: no such donor
};

class PagerKeeper {
 public:
  using OnEnd = std::function<void(int exit_status, const std::string& why)>;

  using OnText = std::function<void(const std::string&)>;

  // `on_end`: the guest cannot go on, and why. `on_notice`: words for the user. `on_problem`: words that even a quiet
  // one must hear.
  PagerKeeper(OnEnd on_end, OnText on_notice, OnText on_problem)
      : on_end_(std::move(on_end)), on_notice_(std::move(on_notice)), on_problem_(std::move(on_problem)) {}
  // Ends the pager in good order; the donors may forget the VM.
  ~PagerKeeper();

  PagerBelongings& belongings() { return belongings_; }
  void set_configuration(nlohmann::json config);
  const nlohmann::json& configuration() const { return config_; }
  // Within a minute; one more, and the guest is stopped.
  void set_most_deaths(size_t most) { most_deaths_ = most; }

  // Starts the first one, and waits until it is connected to the donors. False: on_end was called, or there is
  // something to read at `interrupt`.
  bool start(int interrupt);
  // What the pager found that the donors can do: none, mirror, spill.
  const std::string& protection() const { return protection_; }
  // One that lives already, at the other end of `line`.
  Result<void> adopt(ControlLine line, pid_t pid, const GuestLayout& layout, std::vector<OwnedFd> descriptors);
  // Takes over without any pager there.
  bool take_over(const GuestLayout& layout, std::vector<OwnedFd> descriptors);

  // QEMU's RAM: its process, and its userfaultfds by shard. Waits until a pager serves it. False: it cannot be.
  bool attach(const GuestLayout& layout, std::vector<OwnedFd> descriptors);
  bool attached() const { return attached_; }

  // For poll(): the line and the process.
  int line_fd() const { return line_.fd(); }
  int process_fd() const { return process_.running() ? process_.pidfd() : -1; }
  void on_messages();
  void on_death();
  // Now and then; how long, in ms, it may take until the next call.
  int tick();

  void ask_stats();
  // Asks, and waits for the answer.
  void refresh_stats();
  const nlohmann::json& stats() const { return stats_; }
  // The guest is over; nothing is restarted any more.
  void end();

 private:
  static constexpr int64_t kDeathsNs = 60'000'000'000;
  static constexpr int64_t kPingNs = 1'000'000'000;
  static constexpr int64_t kSilentNs = 5'000'000'000;

  bool launch();
  void send_attach();
  void take(const nlohmann::json& message);
  void restart(const std::string& why);
  void give_up(int exit_status, const std::string& why);
  bool wait_for(const bool& reached, int interrupt = -1);

  const OnEnd on_end_;
  const OnText on_notice_, on_problem_;
  PagerBelongings belongings_;
  nlohmann::json config_, layout_, stats_;
  std::vector<OwnedFd> descriptors_;  // of `layout_`
  std::string protection_;
  ControlLine line_;
  ChildProcess process_;
  bool was_ready_ = false;  // some pager
  bool ready_ = false, attached_ = false, serving_ = false, ended_ = false, lost_ = false;
  int64_t start_by_ns_ = 0;
  int64_t next_ping_ns_ = 0, pinged_ns_ = 0;  // 0: no answer is owed
  size_t most_deaths_ = 5;
  std::deque<int64_t> deaths_ns_;
  int64_t died_ns_ = 0;     // 0: it lives, and serves
  bool death_seen_ = true;  // else only when it was found dead is known
  int64_t takeover_ns_last_ = 0, takeover_ns_most_ = 0;
};

}  // namespace hecaton::cli
