// Assertions for our own bugs; they stay on in release builds. Never on peer data or user input.
#pragma once

namespace hecaton {

[[noreturn]] void check_failed(const char* expression, const char* file, int line);

}  // namespace hecaton

#define HEC_CHECK(expr) \
  (static_cast<bool>(expr) ? static_cast<void>(0) : ::hecaton::check_failed(#expr, __FILE__, __LINE__))
