#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace hecaton {
namespace {

std::string& process_name() {
  static std::string name = "hecaton";
  return name;
}

std::shared_ptr<spdlog::logger> make_logger() {
  auto logger = std::make_shared<spdlog::logger>(process_name(), std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%n: %v");
  const char* level = getenv("HECATON_LOG");
  logger->set_level(level ? spdlog::level::from_str(level) : spdlog::level::warn);
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
}

}  // namespace hecaton
