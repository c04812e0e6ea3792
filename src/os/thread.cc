#include "os/thread.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>
#include <utility>

namespace hecaton {

Result<std::thread> start_thread(const char* name, std::function<void()> body) {
  // Blocked before the thread is there: it inherits the mask, and no signal finds it without.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failure = 0;
  std::thread thread;
  try {
    thread = std::thread(std::move(body));
    pthread_setname_np(thread.native_handle(), name);
  } catch (const std::system_error& error) {
    failure = error.code().value();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (failure != 0) return Error{ErrorCode::kSystem, failure, "starting a thread"};
  return thread;
}

}  // namespace hecaton
