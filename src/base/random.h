// Random bytes from the kernel, for identities and secrets.
#pragma once

#include <sys/random.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"

namespace hecaton {

inline void fill_random(std::span<std::byte> out) {
  while (!out.empty()) {
    ssize_t got = getrandom(out.data(), out.size(), 0);
    HEC_CHECK(got > 0);
    out = out.subspan(static_cast<size_t>(got));
  }
}

inline uint64_t random_id() {
  uint64_t id = 0;
  while (id == 0) fill_random(std::as_writable_bytes(std::span(&id, 1)));
  return id;
}

}  // namespace hecaton
