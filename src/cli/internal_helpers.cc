// The other end of `hecaton bench nodes`, started by it: many donors in one process, and plain TCP to compare with.
#include "base/log.h"
#include "bench/many_donors.h"
#include "bench/raw_tcp.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace hecaton::cli {
namespace {

uint64_t number_in(const std::string& text) {
  return text.empty() || text.find_first_not_of("0123456789") != std::string::npos
             ? 0
             : strtoull(text.c_str(), nullptr, 10);
}

int not_by_hand(const char* verb) {
  print_error("hecaton: {} is started by `hecaton bench`, not by hand\n", verb);
  return kExitUsage;
}

}  // namespace

int internal_donors(const std::vector<std::string>& arguments) {
  start_log("hecaton-donors");
  const uint64_t donors = arguments.size() == 2 ? number_in(arguments[0]) : 0;
  if (donors == 0) return not_by_hand("internal-donors");
  print_error("hecaton bench: {}\n", bench::serve_donors(donors, number_in(arguments[1])));
  return kExitMachine;
}

int internal_tcp(const std::vector<std::string>& arguments) {
  const uint64_t connections = arguments.size() == 1 ? number_in(arguments[0]) : 0;
  if (connections == 0) return not_by_hand("internal-tcp");
  print_error("hecaton bench: {}\n", bench::serve_raw_tcp(connections));
  return kExitMachine;
}

}  // namespace hecaton::cli
