// Many donors in one helper process, for the measurement of large pools: `hecaton internal-donors`. It dies with the
// thread that started it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/process.h"
#include "wire/node_url.h"

namespace hecaton::bench {

class DonorProcess {
 public:
  // Starts `donors` donors that lend `lends_bytes` each, on ports of their own; they serve when it returns.
  static Result<DonorProcess> start(size_t donors, uint64_t lends_bytes, std::string* problem);

  const std::vector<NodeUrl>& addresses() const { return addresses_; }

  // Descriptors that the helper needs: a listener and three connections for each donor, and a few of its own.
  static uint64_t descriptors_for(size_t donors) { return 4 * donors + 64; }

 private:
  DonorProcess() = default;
  ChildProcess child_;
  std::vector<NodeUrl> addresses_;
};

// The helper's side: serves until it is killed; the ports go to standard output, in one line. Returns what is wrong.
std::string serve_donors(size_t donors, uint64_t lends_bytes);

}  // namespace hecaton::bench
