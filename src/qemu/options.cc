#include "qemu/options.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

namespace hecaton {
namespace {

// clang-format off: one name a line would be 140 of them
// Of QEMU 2.5 to 10.1; those of removed options stay, since an older QEMU may be meant.
constexpr std::string_view kWithoutValue[] = {
    "alt-grab",
    "async-teardown",
    "audio-help",
    "ctrl-grab",
    "curses",
    "daemonize",
    "enable-fips",
    "enable-kvm",
    "enable-sync-profile",
    "full-screen",
    "h",
    "help",
    "jitdump",
    "mem-prealloc",
    "no-acpi",
    "no-fd-bootchk",
    "no-frame",
    "no-hpet",
    "no-kvm",
    "no-kvm-irqchip",
    "no-kvm-pit",
    "no-kvm-pit-reinjection",
    "no-quit",
    "no-reboot",
    "no-shutdown",
    "no-user-config",
    "nodefaults",
    "nodefconfig",
    "nographic",
    "old-param",
    "only-migratable",
    "perfmap",
    "portrait",
    "preconfig",
    "rtc-td-hack",
    "S",
    "s",
    "sdl",
    "semihosting",
    "show-cursor",
    "singlestep",
    "snapshot",
    "tdf",
    "usb",
    "version",
    "virtfs_synth",
    "win2k-hack",
    "xen-attach",
    "xen-create",
    "xen-domid-restrict",
};
constexpr std::string_view kWithValue[] = {
    "accel",
    "acpitable",
    "action",
    "add-fd",
    "append",
    "audio",
    "audiodev",
    "balloon",
    "bios",
    "blockdev",
    "boot",
    "bt",
    "cdrom",
    "chardev",
    "chroot",
    "clock",
    "compat",
    "cpu",
    "D",
    "d",
    "debugcon",
    "device",
    "dfilter",
    "display",
    "drive",
    "dtb",
    "dump-vmstate",
    "echr",
    "fda",
    "fdb",
    "fsdev",
    "fw_cfg",
    "g",
    "gdb",
    "global",
    "hda",
    "hdachs",
    "hdb",
    "hdc",
    "hdd",
    "icount",
    "incoming",
    "initrd",
    "iscsi",
    "k",
    "kernel",
    "L",
    "loadvm",
    "m",
    "M",
    "machine",
    "mem-path",
    "mon",
    "monitor",
    "msg",
    "mtdblock",
    "name",
    "net",
    "netdev",
    "nic",
    "numa",
    "object",
    "option-rom",
    "overcommit",
    "parallel",
    "pflash",
    "pidfile",
    "plugin",
    "prom-env",
    "qmp",
    "qmp-pretty",
    "qtest",
    "qtest-log",
    "readconfig",
    "realtime",
    "rotate",
    "rtc",
    "run-with",
    "runas",
    "sandbox",
    "sd",
    "seed",
    "semihosting-config",
    "serial",
    "set",
    "smbios",
    "smp",
    "soundhw",
    "spice",
    "tb-size",
    "tpmdev",
    "trace",
    "usbdevice",
    "uuid",
    "vga",
    "virtfs",
    "virtioconsole",
    "vnc",
    "watchdog",
    "watchdog-action",
    "writeconfig",
    "xen-domid",
};
// clang-format on

template <size_t kCount>
bool contains(const std::string_view (&names)[kCount], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool takes_value(std::string_view name, std::string_view next) {
  if (contains(kWithoutValue, name)) return false;
  return contains(kWithValue, name) || !next.starts_with('-');
}

// QEMU's JSON has strings in single quotes, too.
std::string with_double_quotes(std::string_view json) {
  std::string out;
  char quote = 0;
  for (size_t i = 0; i < json.size(); ++i) {
    char c = json[i];
    if (quote != 0 && c == '\\' && i + 1 < json.size()) {
      if (json[i + 1] != '\'') out += c;
      out += json[++i];
    } else if (quote == 0 && (c == '"' || c == '\'')) {
      quote = c;
      out += '"';
    } else if (c == quote) {
      quote = 0;
      out += '"';
    } else {
      out += quote == '\'' && c == '"' ? "\\\"" : std::string(1, c);
    }
  }
  return out;
}

void flatten(const nlohmann::json& json, const std::string& path, QemuProperties& out) {
  if (json.is_object() || json.is_array()) {
    size_t index = 0;
    for (const auto& item : json.items()) {
      std::string key = json.is_array() ? std::to_string(index++) : item.key();
      flatten(item.value(), path.empty() ? key : path + "." + key, out);
    }
  } else if (json.is_boolean()) {
    out.emplace_back(path, json.get<bool>() ? "on" : "off");
  } else {
    out.emplace_back(path, json.is_string() ? json.get<std::string>() : json.dump());
  }
}

QemuProperties parse_json(std::string_view text) {
  QemuProperties out;
  nlohmann::json json = nlohmann::json::parse(with_double_quotes(text), nullptr, false);
  if (json.is_object()) flatten(json, "", out);  // QEMU refuses anything else
  return out;
}

// Splits at single commas; a doubled one stands for itself.
std::vector<std::string> split(std::string_view value) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < value.size(); ++i) {
    if (value[i] != ',') {
      parts.back() += value[i];
    } else if (i + 1 < value.size() && value[i + 1] == ',') {
      parts.back() += value[i++];
    } else {
      parts.emplace_back();
    }
  }
  return parts;
}

}  // namespace

std::vector<QemuOption> parse_options(std::span<const std::string> arguments) {
  std::vector<QemuOption> options;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (!word.starts_with('-')) {
      options.push_back({"", word, word});
      continue;
    }
    QemuOption option{word.substr(word.starts_with("--") ? 2 : 1), "", word};
    bool more = i + 1 < arguments.size();
    if (more && takes_value(option.name, arguments[i + 1])) {
      option.value = arguments[++i];
      option.written += " " + option.value;
    }
    options.push_back(std::move(option));
  }
  return options;
}

bool has_option(std::span<const QemuOption> options, std::string_view name) {
  return std::any_of(options.begin(), options.end(), [&](const QemuOption& option) { return option.name == name; });
}

QemuProperties parse_properties(std::string_view value, std::string_view implied) {
  if (value.starts_with('{')) return parse_json(value);
  QemuProperties properties;
  for (const std::string& part : split(value)) {
    size_t equals = part.find('=');
    if (equals != std::string::npos) {
      properties.emplace_back(part.substr(0, equals), part.substr(equals + 1));
    } else if (properties.empty() && !implied.empty()) {
      properties.emplace_back(implied, part);
    } else {
      properties.emplace_back(part, "on");
    }
  }
  return properties;
}

bool is_on(std::string_view value) {
  return value != "off" && value != "no" && value != "false" && value != "n";
}

}  // namespace hecaton
