#include "bench/many_donors.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "bench/options.h"
#include "donor/server.h"
#include "os/open_files.h"
#include "store/donor_pool.h"

namespace hecaton::bench {
namespace {

constexpr uint64_t kOwnDescriptors = 64;  // what a process needs besides

// Connections of one kind, prefetch or write-back, that a pool has open at most.
uint64_t links_in(size_t donors) {
  return std::min<uint64_t>(donors, PoolConfig{}.most_links);
}

// How many donors of a pool one helper can be: each has a listener and a demand connection, and all together the rest.
size_t donors_in_a_process(size_t donors) {
  const uint64_t shared = 2 * links_in(donors) + kOwnDescriptors;
  const uint64_t limit = raise_open_files(2 * donors + shared);
  return limit <= shared ? 0 : std::min<uint64_t>(donors, (limit - shared) / 2);
}

}  // namespace

uint64_t ManyDonors::descriptors_for_pager(size_t donors) {
  return donors + 2 * links_in(donors) + kOwnDescriptors;
}

Result<ManyDonors> ManyDonors::start(size_t donors, uint64_t lends_bytes, std::string* problem) {
  const size_t most = donors_in_a_process(donors);
  if (most == 0) {
    *problem = "the limit of open files is too low to start a donor; raise it (ulimit -n)";
    return Error{ErrorCode::kSystem, EMFILE, "starting donors"};
  }
  ManyDonors many;
  while (many.addresses_.size() < donors) {
    HEC_TRY(explained(problem, many.start_process(std::min(most, donors - many.addresses_.size()), lends_bytes)));
  }
  return many;
}

Result<void> ManyDonors::start_process(size_t donors, uint64_t lends_bytes) {
  helpers_.push_back(
      HEC_TRY(HelperProcess::start({"internal-donors", std::to_string(donors), std::to_string(lends_bytes)}, donors)));
  const std::vector<NodeUrl>& started = helpers_.back().addresses();
  addresses_.insert(addresses_.end(), started.begin(), started.end());
  return {};
}

std::string serve_donors(size_t donors, uint64_t lends_bytes) {
  prctl(PR_SET_NAME, "hecaton-donors");
  DonorConfig config;
  config.donors = donors;
  config.lends_bytes = lends_bytes;
  config.threads = 1;  // as an embedded donor has
  auto server = DonorServer::start(config);
  if (!server.ok()) return server.error().describe();
  std::vector<uint16_t> ports;
  for (size_t i = 0; i < donors; ++i) ports.push_back(server.value()->address(i).port);
  if (!say_ports(ports)) return "nobody reads the ports";
  for (;;) pause();
}

}  // namespace hecaton::bench
