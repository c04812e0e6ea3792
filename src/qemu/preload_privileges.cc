// QEMU's -runas changes its user and group, and with them Linux forgets the signal that ends QEMU when hecaton dies: it
// would stay behind, with a guest that nobody pages.
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "qemu/preload.h"

namespace hecaton::preload {
namespace {

constinit Next<int(uid_t)> next_setuid("setuid");
constinit Next<int(gid_t)> next_setgid("setgid");

template <typename Change>
int keep_parent_death_signal(Change change) {
  int number = 0;
  const pid_t parent = getppid();
  if (!config() || prctl(PR_GET_PDEATHSIG, &number) != 0 || number == 0) return change();
  const int result = change();
  const int error = errno;
  prctl(PR_SET_PDEATHSIG, number);
  if (getppid() != parent) kill(getpid(), number);  // it died in between
  errno = error;
  return result;
}

}  // namespace
}  // namespace hecaton::preload

using namespace hecaton::preload;

HEC_HOOK int setuid(uid_t user) {
  return keep_parent_death_signal([&] { return next_setuid.get()(user); });
}

HEC_HOOK int setgid(gid_t group) {
  return keep_parent_death_signal([&] { return next_setgid.get()(group); });
}
