#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

namespace hecaton {
namespace {

std::string& process_name() {
  static std::string name = "hecaton";
  return name;
}

// spdlog takes what it does not know for `off`: a mistyped level would silence warnings.
std::optional<spdlog::level::level_enum> level_of(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  const spdlog::level::level_enum level = spdlog::level::from_str(text);
  if (level == spdlog::level::off && text != "off") return std::nullopt;
  return level;
}

std::shared_ptr<spdlog::logger> make_logger() {
  auto logger = std::make_shared<spdlog::logger>(process_name(), std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%n: %v");
  const char* level = getenv("HECATON_LOG");
  logger->set_level(level ? level_of(level).value_or(spdlog::level::warn) : spdlog::level::warn);
  logger->flush_on(spdlog::level::trace);
  return logger;
}

}  // namespace

spdlog::logger& event_log() {
  static std::shared_ptr<spdlog::logger> logger = make_logger();
  return *logger;
}

void start_log(const char* name) {
  process_name() = name;
  const char* level = getenv("HECATON_LOG");
  if (!level || level_of(level)) return;
  const std::string wrong = level;
  unsetenv("HECATON_LOG");  // the processes that this one starts need not say it again
  event_log().warn("HECATON_LOG={} is no level, and is passed over: error, warn, info, debug, trace or off", wrong);
}

}  // namespace hecaton
