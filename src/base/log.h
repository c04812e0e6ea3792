// Event log on stderr, for the people who run a process. Levels by who must act: error = the user now, warning = the
// user some time, info = nobody. Never page contents. Not for the fault path.
#pragma once

#include <spdlog/spdlog.h>

namespace hecaton {

// Sets up the process's log: "NAME: text" lines on stderr, level from HECATON_LOG (error, warn, info, debug), else warn.
void start_log(const char* process_name);

}  // namespace hecaton
