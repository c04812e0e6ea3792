// A hecatond that this process starts for itself, on loopback, and that ends with its line: when nobody has it open.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "os/owned_fd.h"
#include "os/process.h"

namespace hecaton::cli {

// Whether it goes on if this process is killed, for others that have its line open.
enum class Survives : bool { kNo, kYes };

struct LocalDonor {
  ChildProcess process;
  OwnedFd line;         // its end ends the donor
  std::string address;  // HOST:PORT
};

// `options`: besides --listen and --parent-fd. On error `problem` has its own words.
Result<LocalDonor> start_local_donor(std::vector<std::string> options, Survives survives, std::string* problem);

}  // namespace hecaton::cli
