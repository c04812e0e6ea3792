// Simulates VMs whose donors fail, from seeds; see paging_sim.h. Says the seed of a breach, which replays it.
//
//   paging_sim [--seeds N=100] [--first SEED=1] [--steps N=10000] [--seconds N] [--replay SEED]
//
// Exit status 0: no invariant was broken.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "base/clock.h"
#include "paging/paging_sim.h"

namespace hecaton::sim {
namespace {

// Empty if nothing was wrong.
std::string run(uint64_t seed, uint64_t steps, bool tell, PagingSim::Figures* figures) {
  const World world = World::of_seed(seed);
  if (tell) fmt::print("{}\n", world.describe());
  PagingSim sim(world);
  for (uint64_t n = 0; n < steps && !sim.over(); ++n) sim.step();
  sim.settle_and_verify();
  figures->add(sim.figures());
  if (tell || !sim.breach().empty()) fmt::print("{}", sim.story());
  if (sim.breach().empty()) return {};
  const uint64_t taken = sim.figures().steps;
  return fmt::format("{}: {}", taken < steps ? fmt::format("step {}", taken) : "at the end", sim.breach());
}

void print(const PagingSim::Figures& all, uint64_t seeds, double seconds) {
  fmt::print(
      "{} seeds, {} steps, {:.0f} s simulated, in {:.1f} s\n"
      "donors: {} failures, {} lost, {} reached again, {} added; memory was lost in {} worlds, all of it told\n"
      "pages: {} evicted, {} fetched, {} fetched ahead, {} MiB copied to protect them again\n"
      "reads: {} went to another donor, {} asked for twice, {} mended\n",
      seeds, all.steps, static_cast<double>(all.simulated_ns) / 1e9, seconds, all.failures, all.lost_donors,
      all.reached_again, all.added, all.losses, all.evicted, all.fetched, all.prefetched, all.reprotected_bytes >> 20,
      all.failed_over, all.hedged, all.repaired);
}

}  // namespace
}  // namespace hecaton::sim

int main(int argc, char** argv) {
  using namespace hecaton::sim;
  uint64_t seeds = 100, first = 1, steps = 10'000, replay = 0, seconds = 0;
  CLI::App app("Simulates VMs whose donors fail, and checks that nothing is lost or read wrong.");
  app.add_option("--seeds", seeds, "worlds to run")->capture_default_str();
  app.add_option("--first", first, "the first seed")->capture_default_str();
  app.add_option("--steps", steps, "of each world")->capture_default_str();
  app.add_option("--seconds", seconds, "go on with further seeds for so long, instead of --seeds");
  app.add_option("--replay", replay, "this seed only, and tell what happens");
  CLI11_PARSE(app, argc, argv);
  if (replay != 0) {
    first = replay;
    seeds = 1;
  }
  const int64_t started = hecaton::monotonic_ns();
  auto elapsed = [&] { return static_cast<double>(hecaton::monotonic_ns() - started) / 1e9; };
  PagingSim::Figures all;
  uint64_t done = 0;
  for (; seconds > 0 ? elapsed() < static_cast<double>(seconds) : done < seeds; ++done) {
    const uint64_t seed = first + done;
    if (std::string breach = run(seed, steps, replay != 0, &all); !breach.empty()) {
      fmt::print(stderr, "paging_sim: {}\nreplay it with: paging_sim --steps {} --replay {}\n", breach, steps, seed);
      return 1;
    }
  }
  print(all, done, elapsed());
  return 0;
}
