#include "transport/rdma_handles.h"

#include <fcntl.h>
#include <sys/mman.h>

namespace hecaton {
namespace {

Result<void> make_nonblocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    return system_error("fcntl on an RDMA descriptor");
  }
  return {};
}

}  // namespace

Result<RdmaEvents> create_rdma_events() {
  RdmaEvents events(rdma_create_event_channel());
  if (!events) return system_error("opening /dev/infiniband/rdma_cm");
  HEC_TRY(make_nonblocking(events->fd));
  return events;
}

Result<RdmaCompletions> create_rdma_completions(ibv_context* device) {
  RdmaCompletions completions(ibv_create_comp_channel(device));
  if (!completions) return system_error("creating an RDMA completion channel");
  HEC_TRY(make_nonblocking(completions->fd));
  return completions;
}

Result<RdmaMemory> RdmaMemory::create(ibv_pd* domain, size_t bytes, int access) {
  RdmaMemory made{HEC_TRY(Mapping::sparse(pages_in(bytes) * kPageBytes)), nullptr};
  if (madvise(made.memory.data(), made.memory.size(), MADV_DONTFORK) != 0) return system_error("madvise");
  made.registration.reset(ibv_reg_mr(domain, made.memory.data(), bytes, access));
  if (!made.registration) return system_error("registering memory for RDMA (see ulimit -l)");
  return made;
}

}  // namespace hecaton
