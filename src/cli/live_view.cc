#include "cli/live_view.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "base/units.h"
#include "cli/output.h"

namespace hecaton::cli {
namespace {

uint64_t figure(const nlohmann::json& stats, const char* key) {
  return stats.value(key, uint64_t{0});
}

uint64_t latency(const nlohmann::json& stats, const char* key) {
  return stats.contains("fault_us") ? figure(stats.at("fault_us"), key) : 0;
}

void row(const char* what, const std::string& value) {
  print_error("  {:<22} {}\n", what, value);
}

}  // namespace

void print_live_line(const nlohmann::json& stats, const std::string& accel, double faults_per_second) {
  const bool terminal = isatty(STDERR_FILENO);
  std::string line = fmt::format(
      "memory/{} | resident {} of {} | remote {} | {:.0f} faults/s | p50 {} us p99 {} us", accel,
      format_size(figure(stats, "resident_bytes")), format_size(figure(stats, "local_limit_bytes")),
      format_size(figure(stats, "remote_bytes")), faults_per_second, latency(stats, "p50"), latency(stats, "p99"));
  // A line that goes over into the next is not wiped by the one after it.
  winsize window{};
  if (terminal && ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1) {
    line.resize(std::min<size_t>(line.size(), window.ws_col - 1));
  }
  print_error("{}{}{}", terminal ? "\r\033[K" : "hecaton: ", line, terminal ? "" : "\n");
}

void print_summary(const nlohmann::json& stats, const std::string& accel, double seconds) {
  print_error("hecaton: the run's figures ({:.1f} s, mode memory, accelerator {})\n", seconds, accel);
  row("guest RAM", format_size(figure(stats, "guest_ram_bytes")));
  row("local limit", format_size(figure(stats, "local_limit_bytes")));
  row("resident, peak", fmt::format("{}, {}", format_size(figure(stats, "resident_bytes")),
                                    format_size(figure(stats, "resident_peak_bytes"))));
  row("remote", format_size(figure(stats, "remote_bytes")));
  row("faults", fmt::format("{}: {} of zeros, {} remote, {} first touches, {} first writes", figure(stats, "faults"),
                            figure(stats, "faults_zero"), figure(stats, "faults_remote"), figure(stats, "faults_minor"),
                            figure(stats, "faults_protect")));
  row("fault time", fmt::format("p50 {} us, p90 {} us, p99 {} us, max {} us", latency(stats, "p50"),
                                latency(stats, "p90"), latency(stats, "p99"), latency(stats, "max")));
  row("waits for eviction", fmt::format("{}", figure(stats, "faults_stalled")));
  row("prefetched", fmt::format("{} pages, {} of them in windows that were used; late for {} faults; paused {} times",
                                figure(stats, "prefetched_pages"), figure(stats, "prefetch_used_pages"),
                                figure(stats, "prefetch_late_faults"), figure(stats, "prefetch_pauses")));
  row("evicted", fmt::format("{} pages: {} written back, {} zeros", figure(stats, "evicted_pages"),
                             figure(stats, "written_back_pages"), figure(stats, "zero_pages")));
  row("lost", fmt::format("{} pages", figure(stats, "lost_pages")));
}

}  // namespace hecaton::cli
