#include "node/node.h"

#include "base/check.h"
#include "base/log.h"
#include "os/memory.h"
#include "os/thread.h"

namespace hecaton::node {
namespace {

// The engine serves those who wait for memory: it must not have to wait for its own.
void keep_own_memory() {
  Result<void> locked = lock_process_memory();
  if (locked.ok()) return;
  event_log().warn(
      "the node's own memory is not locked ({}): a machine short of memory may stall the guest; raise `ulimit -l` or "
      "run as root",
      locked.error().describe());
}

}  // namespace

uint64_t digest_of(const std::vector<uint64_t>& pages) {
  uint64_t digest = 0xcbf29ce484222325;  // FNV-1a, over words
  for (uint64_t count : pages) digest = (digest ^ count) * 0x100000001b3;
  return digest;
}

Result<std::unique_ptr<Node>> Node::start(const NodeConfig& config, TcpListener listener, std::string* problem) {
  HEC_CHECK(config.nodes.size() == config.pages.size() && config.self.value < config.nodes.size());
  keep_own_memory();
  const coherence::HomeMap homes(config.pages);
  const bool protected_map = config.protected_map ? *config.protected_map : HEC_TRY(CoherentMemory::maps_protected());
  std::unique_ptr<Node> node(new Node(HEC_TRY(CoherentMemory::create(homes.pages(), protected_map))));
  const MeshConfig mesh{config.self,   config.nodes,       config.vm,    digest_of(config.pages),
                        config.secret, config.credentials, config.trust, config.insecure};
  const Deadline by = Deadline::after_ms(config.start_ms);
  std::vector<PeerLink> links = HEC_TRY(connect_mesh(mesh, std::move(listener), by, problem));
  EngineConfig engine{{config.self, homes, config.processors, config.hold_ns},
                      config.silence_ms,
                      by.remaining_ms(),
                      config.seek_neighbour,
                      config.on_stop};
  node->engine_ = HEC_TRY(Engine::create(std::move(engine), node->memory_, std::move(links)));
  node->thread_ = HEC_TRY(start_thread("hec-node", [self = node->engine_.get()] { self->run(); }));
  return node;
}

Node::~Node() {
  stop();
}

void Node::stop() {
  if (engine_) engine_->stop();
  if (thread_.joinable()) thread_.join();
}

}  // namespace hecaton::node
