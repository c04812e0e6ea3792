#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <cstdlib>
#include <string>

namespace hecaton {

void start_log(const char* process_name) {
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto logger = std::make_shared<spdlog::logger>(process_name, sink);
  logger->set_pattern("%n: %v");
  const char* level = getenv("HECATON_LOG");
  logger->set_level(level ? spdlog::level::from_str(level) : spdlog::level::warn);
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(logger);
}

}  // namespace hecaton
