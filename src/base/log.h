// Event log on stderr, for the people who run a process. Levels by who must act: error = the user now, warning = the
// user some time, info = nobody. Never page contents. Not for the fault path. Any thread.
#pragma once

#include <spdlog/logger.h>

namespace hecaton {

// The log of Hecaton's own events: "NAME: text" lines on stderr. Level from HECATON_LOG (error, warn, info, debug),
// else warn. Apart from the default logger of a program that only hosts us.
spdlog::logger& event_log();

// Names this process in its log lines; without it, "hecaton". Before the first event.
void start_log(const char* process_name);

}  // namespace hecaton
