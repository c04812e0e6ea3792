// Threads: named, and with all signals blocked, so that the process's own handling is not disturbed.
#pragma once

#include <functional>
#include <thread>

#include "base/result.h"

namespace hecaton {

// `name`: at most 15 characters. Error: kSystem, the machine gave no thread.
Result<std::thread> start_thread(const char* name, std::function<void()> body);

}  // namespace hecaton
