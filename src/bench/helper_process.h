// A helper process of a benchmark: this program again, by one of its internal verbs, which says on which ports it
// serves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/process.h"
#include "wire/node_url.h"

namespace hecaton::bench {

// It dies with the thread that started it, and with this object.
class HelperProcess {
 public:
  HelperProcess() = default;
  // Starts it with these arguments; it serves on that many ports of this machine when it returns.
  static Result<HelperProcess> start(std::vector<std::string> arguments, size_t ports);

  const std::vector<NodeUrl>& addresses() const { return addresses_; }

 private:
  ChildProcess child_;
  std::vector<NodeUrl> addresses_;
};

// The helper's side: one line on standard output. False: nobody reads it.
bool say_ports(const std::vector<uint16_t>& ports);

}  // namespace hecaton::bench
