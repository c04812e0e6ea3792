// Many donors in helper processes, for the measurement of large pools: `hecaton internal-donors`. As few processes as
// the limit of open files allows; they die with the thread that started them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/helper_process.h"
#include "wire/node_url.h"

namespace hecaton::bench {

class ManyDonors {
 public:
  // Starts `donors` donors that lend `lends_bytes` each, on ports of their own; they serve when it returns.
  static Result<ManyDonors> start(size_t donors, uint64_t lends_bytes, std::string* problem);

  const std::vector<NodeUrl>& addresses() const { return addresses_; }
  size_t processes() const { return helpers_.size(); }

  // Descriptors that a pager with this many donors needs for them.
  static uint64_t descriptors_for_pager(size_t donors);

 private:
  Result<void> start_process(size_t donors, uint64_t lends_bytes);
  std::vector<HelperProcess> helpers_;
  std::vector<NodeUrl> addresses_;
};

// A helper's side: serves until it is killed; the ports go to standard output, in one line. Returns what is wrong.
std::string serve_donors(size_t donors, uint64_t lends_bytes);

}  // namespace hecaton::bench
