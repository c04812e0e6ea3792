// Many donors in one process, started by `hecaton bench nodes`.
#include "base/log.h"
#include "bench/many_donors.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace hecaton::cli {
namespace {

uint64_t number_in(const std::string& text) {
  return text.empty() || text.find_first_not_of("0123456789") != std::string::npos
             ? 0
             : strtoull(text.c_str(), nullptr, 10);
}

}  // namespace

int internal_donors(const std::vector<std::string>& arguments) {
  start_log("hecaton-donors");
  const uint64_t donors = arguments.size() == 2 ? number_in(arguments[0]) : 0;
  if (donors == 0) {
    print_error("hecaton: internal-donors is started by `hecaton bench`, not by hand\n");
    return kExitUsage;
  }
  print_error("hecaton bench: {}\n", bench::serve_donors(donors, number_in(arguments[1])));
  return kExitMachine;
}

}  // namespace hecaton::cli
