// The single findings of `hecaton doctor`.
#pragma once

#include <string>
#include <vector>

namespace hecaton::cli {

enum class Verdict {
  kGood,
  kNote,     // works, but something could be better or will not be used
  kMissing,  // memory mode cannot run without it
};

struct Check {
  std::string name;
  Verdict verdict;
  std::string found;    // what is there
  std::string meaning;  // what it means for a VM
  std::string remedy;   // the command that mends it; empty if there is none
};

struct DoctorOptions {
  std::vector<std::string> nodes;
  std::string qemu = "qemu-system-x86_64";
};

// Takes up to a few seconds: it times /dev/kvm and tries to reach donors.
std::vector<Check> examine_machine(const DoctorOptions& options);

}  // namespace hecaton::cli
