// The QEMU arguments that a user gives, one a line: each is read as an option or not at all, properties and JSON are
// read whatever they are, and a problem can be shown.
#include <algorithm>

#include "base/units.h"
#include "fuzz.h"
#include "qemu/arguments.h"
#include "qemu/options.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::string> arguments;
  for (std::string_view rest = fuzz::text_of(data, size); !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    arguments.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  const std::vector<QemuOption> options = parse_options(arguments);
  HEC_CHECK(options.size() <= arguments.size());
  for (const QemuOption& option : options) (void)parse_properties(option.value, "driver");
  for (const auto& problems : {check_arguments(arguments), check_kvm_arguments(arguments)}) {
    for (const ArgumentProblem& problem : problems) HEC_CHECK(!problem.reason.empty() && !problem.instead.empty());
  }
  const QemuPlan plan{"qemu", 64_MiB, 5, Accel::kKvm, arguments};
  HEC_CHECK(qemu_command(plan).size() > arguments.size());
  return 0;
}
