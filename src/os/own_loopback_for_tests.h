// For tests that start a listener anew at the port that it had: a loopback address of this process's own. At 127.0.0.1
// any test that runs beside it may be given the port meanwhile.
#pragma once

#include <unistd.h>

#include <string>

namespace hecaton {

inline std::string own_loopback() {
  const auto id = static_cast<unsigned>(getpid());  // 22 bits at most
  return "127." + std::to_string(64 + (id >> 16) % 64) + "." + std::to_string((id >> 8) % 256) + "." +
         std::to_string(id % 256);
}

}  // namespace hecaton
