// One owner for each object of libibverbs and librdmacm.
#pragma once

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <memory>

#include "base/result.h"
#include "base/units.h"
#include "os/memory.h"

namespace hecaton {

template <auto Destroy>
struct Destroyer {
  template <typename T>
  void operator()(T* object) const {
    Destroy(object);
  }
};
using RdmaEvents = std::unique_ptr<rdma_event_channel, Destroyer<rdma_destroy_event_channel>>;
using RdmaId = std::unique_ptr<rdma_cm_id, Destroyer<rdma_destroy_id>>;
using RdmaDomain = std::unique_ptr<ibv_pd, Destroyer<ibv_dealloc_pd>>;
using RdmaCompletions = std::unique_ptr<ibv_comp_channel, Destroyer<ibv_destroy_comp_channel>>;
using RdmaQueue = std::unique_ptr<ibv_cq, Destroyer<ibv_destroy_cq>>;
using RdmaRegistration = std::unique_ptr<ibv_mr, Destroyer<ibv_dereg_mr>>;
using RdmaQueuePair = std::unique_ptr<rdma_cm_id, Destroyer<rdma_destroy_qp>>;  // of that id, which outlives it

// Channels whose descriptors never block.
Result<RdmaEvents> create_rdma_events();
Result<RdmaCompletions> create_rdma_completions(ibv_context* device);

// Memory that the device may use: not in core dumps, not in children (a fork would part the two's views of it).
struct RdmaMemory {
  Mapping memory;
  RdmaRegistration registration;
  std::byte* data() const { return memory.data(); }

  static Result<RdmaMemory> create(ibv_pd* domain, size_t bytes, int access);
};

}  // namespace hecaton
