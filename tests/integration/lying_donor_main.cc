// The lying donor as a program, for the end-to-end tests:
//
//   lying_donor HONEST_HOST:PORT none|older|flipped|another AFTER_PAGES
//
// Says "lying_donor: listening on HOST:PORT", and lies from the AFTER_PAGES-th read of a page on, until it is killed.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "lying_donor.h"

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const auto honest = hecaton::parse_node_url(argv[1]);
  const auto lie = hecaton::LyingDonor::lie_named(argv[2]);
  if (!honest.ok() || !lie) return 2;
  auto donor = hecaton::LyingDonor::start({.token = {}, .host = "127.0.0.1", .port = 0}, honest.value());
  if (!donor.ok()) return 3;
  (*donor)->lie(*lie, strtoull(argv[3], nullptr, 10));
  printf("lying_donor: listening on %s\n", (*donor)->address().printable().c_str());
  fflush(stdout);
  for (;;) pause();
}
