// How many descriptors this process may have and has.
#pragma once

#include <cstdint>

namespace hecaton {

// Raises this process's limit of open files to `wanted`, or as far towards it as it may go: beyond the hard limit only
// root may. Returns the limit there is now.
uint64_t raise_open_files(uint64_t wanted);

uint64_t count_open_files();

// Descriptors 0 to 2 exist from here on: else something of ours gets their numbers, and messages are written into it.
void have_standard_descriptors();

}  // namespace hecaton
