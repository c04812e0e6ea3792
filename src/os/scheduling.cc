#include "os/scheduling.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace hecaton {
namespace {

constexpr int kProcessorField = 39;

// All processors that this process might use: what it was started with, before any thread narrowed itself.
const cpu_set_t& allowed_at_start() {
  static const cpu_set_t allowed = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(getpid(), sizeof set, &set) != 0) memset(&set, 0xff, sizeof set);
    return set;
  }();
  return allowed;
}

}  // namespace

std::optional<unsigned> LastProcessor::of(pid_t thread) {
  if (thread != thread_ || !stat_.valid()) {
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/stat", thread);
    stat_.reset(open(path, O_RDONLY | O_CLOEXEC));
    thread_ = thread;
  }
  char text[1024];
  const ssize_t got = stat_.valid() ? pread(stat_.get(), text, sizeof text - 1, 0) : -1;
  if (got <= 0) {
    stat_.reset();
    return std::nullopt;
  }
  text[got] = 0;
  const char* at = strrchr(text, ')');  // the name in field 2 may hold blanks, and parentheses
  for (int field = 2; at && field < kProcessorField; ++field) at = strchr(at + 1, ' ');
  if (!at) return std::nullopt;
  return static_cast<unsigned>(strtoul(at + 1, nullptr, 10));
}

std::vector<unsigned> usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<unsigned> usable;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return usable;
  for (unsigned i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) usable.push_back(i);
  }
  return usable;
}

bool run_only_on(unsigned processor) {
  (void)allowed_at_start();
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

bool run_anywhere() {
  return sched_setaffinity(0, sizeof(cpu_set_t), &allowed_at_start()) == 0;
}

bool leave_processor(unsigned processor) {
  cpu_set_t set = allowed_at_start();
  CPU_CLR(processor, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0 && run_anywhere();
}

// Source: sched_setattr(2); kernel/sched/syscalls.c, __setparam_fair(), for what sched_runtime means to normal threads.
bool want_short_slices() {
  constexpr uint64_t kShortestSliceNs = 100'000;
  struct Attributes {  // sched_attr, as its first version was
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attributes{};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return false;
  attributes.size = sizeof attributes;
  if (attributes.policy != SCHED_OTHER) return false;
  attributes.runtime = kShortestSliceNs;
  return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}

}  // namespace hecaton
