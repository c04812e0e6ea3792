// Where threads run: asking it of other threads, choosing it for the calling one.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "os/owned_fd.h"

namespace hecaton {

// Tells on which processor a thread, of any process of this user, ran last. Keeps the file of one thread open, because
// asking again costs a third of opening anew. One thread. Allocates nothing.
// Source: proc(5), /proc/PID/stat, field 39.
class LastProcessor {
 public:
  // Nothing: the thread is gone, or /proc does not show it.
  std::optional<unsigned> of(pid_t thread);

 private:
  pid_t thread_ = 0;
  OwnedFd stat_;
};

// Those that the calling thread may use, ascending.
std::vector<unsigned> usable_processors();

// The calling thread may run only there; anywhere where it could when it was started. False: the kernel refused.
bool run_only_on(unsigned processor);
bool run_anywhere();
// Moves the calling thread to any other processor than this one, and binds it to none. False: there is no other.
bool leave_processor(unsigned processor);

// The calling thread wants the processor soon after it is woken, and not for long: it takes it from those that want it
// for longer (Linux 6.12; before, and in other classes than the normal one, this does nothing). False: nothing was
// done.
bool want_short_slices();

}  // namespace hecaton
