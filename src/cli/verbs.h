// The verbs of `hecaton`, one file each. Each gets the arguments after its name and returns the exit status.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hecaton::cli {

// Exit statuses that are ours; a guest's own pass through.
inline constexpr int kExitUsage = 2;
inline constexpr int kExitMachine = 3;  // this machine cannot do it
inline constexpr int kExitLost = 4;     // the guest was stopped: memory lost

// The soft limit of open files that the user set, before main() raised ours: QEMU gets it back.
inline uint64_t& users_open_files() {
  static uint64_t limit = 0;
  return limit;
}

int run(const std::vector<std::string>& arguments);
int resume_pager(const std::vector<std::string>& arguments);
int pool(const std::vector<std::string>& arguments);
int status(const std::vector<std::string>& arguments);
int doctor(const std::vector<std::string>& arguments);
int bench(const std::vector<std::string>& arguments);
int internal_donors(const std::vector<std::string>& arguments);
int internal_tcp(const std::vector<std::string>& arguments);
int internal_pager(const std::vector<std::string>& arguments);

}  // namespace hecaton::cli
