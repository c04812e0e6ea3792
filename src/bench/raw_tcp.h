// What plain TCP costs over as many connections as a pool has donors: the part of a fault's price that no pager can do
// anything about. A thread here, another in a helper process (`hecaton internal-tcp`), nothing of a donor's or a
// pager's code between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/helper_process.h"
#include "bench/limits.h"
#include "transport/stream.h"

namespace hecaton::bench {

class RawTcp {
 public:
  // `connections` to one helper, all of them used once when it returns.
  static Result<RawTcp> start(size_t connections);

  // `rounds` times a request and its reply, of the sizes that a demand read has, each over a connection chosen at
  // random. This end spins on that connection's socket, the other one on epoll; each has a processor of its own.
  Result<Quantiles> measure(size_t rounds, uint64_t seed);

 private:
  Result<void> connect(size_t connections, const std::vector<NodeUrl>& addresses);
  Result<void> use_each_once();

  HelperProcess helper_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<int> descriptors_;  // of the streams, in their order
};

// The helper's side: serves until it is killed; the ports go to standard output, in one line. Returns what is wrong.
std::string serve_raw_tcp(size_t connections);

}  // namespace hecaton::bench
