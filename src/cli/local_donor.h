// A hecatond that this process starts for itself, on loopback, and that ends with it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "os/owned_fd.h"
#include "os/process.h"

namespace hecaton::cli {

struct LocalDonor {
  ChildProcess process;
  OwnedFd line;         // its end ends the donor
  std::string address;  // HOST:PORT
};

// `options`: besides --listen and --parent-fd. On error `problem` has its own words.
Result<LocalDonor> start_local_donor(std::vector<std::string> options, std::string* problem);

}  // namespace hecaton::cli
