#include "base/check.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace hecaton {

void check_failed(const char* expression, const char* file, int line) {
  char text[512];
  int length =
      snprintf(text, sizeof text, "hecaton: internal error, please report it: %s at %s:%d\n", expression, file, line);
  if (length > 0) {
    size_t bytes = static_cast<size_t>(length) < sizeof text ? static_cast<size_t>(length) : sizeof text - 1;
    [[maybe_unused]] ssize_t written = write(STDERR_FILENO, text, bytes);
  }
  abort();
}

}  // namespace hecaton
