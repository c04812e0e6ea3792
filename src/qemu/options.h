// QEMU's command line as QEMU reads it: options, their values, and the properties in these. Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hecaton {

struct QemuOption {
  std::string name;     // without dashes; empty: a bare word, which QEMU takes for a disk image
  std::string value;    // empty if it has none
  std::string written;  // "-name value", to show
};

// An option is taken to have a value unless it is known to have none. One that is not known at all, of a QEMU newer
// than this table, does not swallow a word with a dash: that may be an option which must be seen.
std::vector<QemuOption> parse_options(std::span<const std::string> arguments);

bool has_option(std::span<const QemuOption> options, std::string_view name);

using QemuProperties = std::vector<std::pair<std::string, std::string>>;

// "word,key=value,flag,key=a,,b" or JSON as an object. A first word without '=' gets the key `implied`; later ones are
// switches and get "on". In JSON nested keys are joined by dots, and true and false are "on" and "off".
QemuProperties parse_properties(std::string_view value, std::string_view implied);

// As QEMU reads a switch: everything but off, no, false and n.
bool is_on(std::string_view value);

}  // namespace hecaton
