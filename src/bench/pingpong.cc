// bench pingpong: what it costs that guest memory is one over several nodes.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/units.h"
#include "bench/benchmarks.h"
#include "bench/limits.h"
#include "bench/node_script.h"
#include "wire/node_link.h"

namespace hecaton::bench {
namespace {

constexpr size_t kMessageBytes = wire::kLaneFrameBytes + wire::kCoherenceHeaderBytes;
// Sharers that are told to forget, in the two cases that are compared.
constexpr std::array<size_t, 2> kSharers{1, 3};

using PerSharers = std::array<Quantiles, kSharers.size()>;
// Guest memory is locked, in two mappings: so much may be without being root, where the limit is the usual 8 MiB.
constexpr size_t kMostStreamPages = 900;
// Each raw fault takes a page: as many as the other benchmarks take for their limit.
constexpr size_t kMostRawFaults = 10'000;

// One repeat of everything.
struct Sample {
  Quantiles write, upgrade, first_touch;
  PerSharers forget;
  double stream_gbps = 0;
  uint64_t upgrades = 0, upgrade_pages = 0;
  double upgrade_bytes = 0;  // on the wire, each
  Quantiles message, page, uffd;
  PerSharers fan_out;  // raw messages to so many, and back
};

struct Samples {
  std::vector<Sample> all;
  uint64_t wrong = 0;

  Quantiles of(Quantiles Sample::*which) const {
    std::vector<Quantiles> repeats;
    for (const Sample& sample : all) repeats.push_back(sample.*which);
    return median(repeats);
  }
  Quantiles of(PerSharers Sample::*which, size_t i) const {
    std::vector<Quantiles> repeats;
    for (const Sample& sample : all) repeats.push_back((sample.*which)[i]);
    return median(repeats);
  }
  Quantiles forget(size_t i) const { return of(&Sample::forget, i); }
  Quantiles fan_out(size_t i) const { return of(&Sample::fan_out, i); }
  double number(double Sample::*which) const {
    std::vector<double> values;
    for (const Sample& sample : all) values.push_back(sample.*which);
    return median(values);
  }
  // A round trip of messages; a page one way; two steps of the kernel.
  double limit_us() const {
    const double message = of(&Sample::message).p50_us;
    return message + page_us() + 2 * of(&Sample::uffd).p50_us;
  }
  double page_us() const { return of(&Sample::page).p50_us - of(&Sample::message).p50_us / 2; }
  double ratio() const { return limit_us() > 0 ? of(&Sample::write).p50_us / limit_us() : 0; }
  double fan_out_ratio() const { return fan_out(0).p50_us > 0 ? fan_out(1).p50_us / fan_out(0).p50_us : 0; }
  double forget_ratio() const { return forget(0).p50_us > 0 ? forget(1).p50_us / forget(0).p50_us : 0; }
};

// Every `each`-th step, but for a warming tenth.
Quantiles steps_of(const ScriptResult& result, size_t each) {
  std::vector<int64_t> samples;
  const size_t rounds = result.took_ns.size() / each;
  for (size_t round = rounds / 10; round < rounds; ++round) samples.push_back(result.took_ns[round * each + each - 1]);
  return quantiles_of(samples);
}

Result<ScriptResult> play(Samples& samples, const NodeScript& script, std::string* problem) {
  ScriptResult result = HEC_TRY(run_script(script, problem));
  samples.wrong += result.wrong;
  return result;
}

// Two nodes write one page in turn.
NodeScript pingpong(size_t rounds) {
  NodeScript script{{1, 1}, {}};
  for (size_t i = 0; i < rounds; ++i) script.steps.push_back({static_cast<uint8_t>(i % 2), true, 0});
  return script;
}

// Node 0 writes what so many others have read. Four nodes in either case: so that the same processes share the machine.
NodeScript forgetting(size_t rounds, size_t sharers) {
  NodeScript script{{1, 1, 1, 1}, {}};
  for (size_t i = 0; i < rounds; ++i) {
    for (size_t reader = 1; reader <= sharers; ++reader)
      script.steps.push_back({static_cast<uint8_t>(reader), false, 0});
    script.steps.push_back({0, true, 0});
  }
  return script;
}

// Node 1 writes a page of node 0's range, node 0 reads it, and so on: node 1 has a copy, and asks for the right to
// write.
NodeScript upgrading(size_t rounds) {
  NodeScript script{{1, 1}, {{1, true, 0}}};
  for (size_t i = 0; i < rounds; ++i) {
    script.steps.push_back({0, false, 0});
    script.steps.push_back({1, true, 0});
  }
  return script;
}

// Node 0 touches its range; node 1 reads through it.
NodeScript streaming(size_t pages) {
  NodeScript script{{pages, 1}, {}};
  for (uint8_t node : {0, 1}) {
    for (size_t page = 0; page < pages; ++page) script.steps.push_back({node, node == 0, page});
  }
  return script;
}

Result<void> measure_once(const Options& options, Samples& samples, std::string* problem) {
  const size_t rounds = options.rounds_or(5'000, 300);
  Sample sample;
  sample.uffd = HEC_TRY(explained(problem, measure_raw_fault(std::min(rounds, kMostRawFaults))));
  sample.message = HEC_TRY(explained(problem, measure_raw_exchange(kMessageBytes, kMessageBytes, rounds)));
  sample.page = HEC_TRY(explained(problem, measure_raw_exchange(kMessageBytes, kMessageBytes + kPageBytes, rounds)));
  sample.write = steps_of(HEC_TRY(play(samples, pingpong(rounds), problem)), 1);
  for (size_t i = 0; i < kSharers.size(); ++i) {
    sample.fan_out[i] = HEC_TRY(explained(problem, measure_raw_fan_out(kSharers[i], kMessageBytes, rounds)));
    sample.forget[i] = steps_of(HEC_TRY(play(samples, forgetting(rounds / 4, kSharers[i]), problem)), kSharers[i] + 1);
  }
  ScriptResult upgrade = HEC_TRY(play(samples, upgrading(rounds / 2), problem));
  // Each read moves a page, and so does the look at memory after the last; an untouched page is not sent.
  const size_t reads = rounds / 2 + 1;
  sample.upgrades = upgrade.upgrades;
  sample.upgrade_pages = upgrade.pages_sent - std::min<uint64_t>(upgrade.pages_sent, reads);
  const uint64_t page_bytes = upgrade.pages_sent * (kMessageBytes + kPageBytes);
  sample.upgrade_bytes = static_cast<double>(upgrade.bytes_sent - page_bytes) / static_cast<double>(reads);
  upgrade.took_ns.erase(upgrade.took_ns.begin());
  sample.upgrade = steps_of(upgrade, 2);
  const size_t pages = std::min(rounds, kMostStreamPages);
  ScriptResult stream = HEC_TRY(play(samples, streaming(pages), problem));
  int64_t stream_ns = 0;
  for (size_t i = pages; i < 2 * pages; ++i) stream_ns += stream.took_ns[i];
  sample.stream_gbps = static_cast<double>(pages * kPageBytes) / static_cast<double>(stream_ns);
  stream.took_ns.resize(pages);
  sample.first_touch = steps_of(stream, 1);
  samples.all.push_back(std::move(sample));
  return {};
}

nlohmann::ordered_json json_of(const Samples& samples) {
  auto quantiles = [](const Quantiles& q) {
    return nlohmann::ordered_json{{"p50_us", q.p50_us}, {"p90_us", q.p90_us}, {"p99_us", q.p99_us}};
  };
  nlohmann::ordered_json json = quantiles(samples.of(&Sample::write));
  json["ratio"] = samples.ratio();
  json["limit"] = {{"message_us", samples.of(&Sample::message).p50_us},
                   {"page_us", samples.page_us()},
                   {"uffd_us", samples.of(&Sample::uffd).p50_us},
                   {"sum_us", samples.limit_us()}};
  for (size_t i = 0; i < kSharers.size(); ++i) {
    json["invalidate"][std::to_string(kSharers[i])] = quantiles(samples.forget(i));
  }
  json["invalidate"]["ratio"] = samples.forget_ratio();
  json["invalidate"]["limit"] = {
      {"1_us", samples.fan_out(0).p50_us}, {"3_us", samples.fan_out(1).p50_us}, {"ratio", samples.fan_out_ratio()}};
  json["upgrade"] = quantiles(samples.of(&Sample::upgrade));
  uint64_t pages = 0, upgrades = 0;
  for (const Sample& sample : samples.all) {
    pages += sample.upgrade_pages;
    upgrades += sample.upgrades;
  }
  json["upgrade"]["count"] = upgrades;
  json["upgrade"]["pages_sent"] = pages;
  json["upgrade"]["round_control_bytes"] = samples.number(&Sample::upgrade_bytes);
  json["first_touch_us"] = samples.of(&Sample::first_touch).p50_us;
  json["stream_gbps"] = samples.number(&Sample::stream_gbps);
  return json;
}

Report report_of(const Samples& samples) {
  auto row = [](const char* what, const Quantiles& q) {
    return std::vector<std::string>{what, fmt::format("{:.1f}", q.p50_us), fmt::format("{:.1f}", q.p90_us),
                                    fmt::format("{:.1f}", q.p99_us)};
  };
  Report report;
  report.name = "pingpong";
  report.title = "one memory on several nodes: writes to a page that the other node wrote";
  report.headline = fmt::format("{:.2f}×", samples.ratio());
  report.meaning = "a round trip, a page's transfer and two userfault steps, at p50";
  report.figures = json_of(samples);
  report.table = {{"microseconds", "p50", "p90", "p99"},
                  {row("write to what the other wrote", samples.of(&Sample::write)),
                   row("write to what 1 other has read", samples.forget(0)),
                   row("write to what 3 others have read", samples.forget(1)),
                   row("upgrade at another home", samples.of(&Sample::upgrade)),
                   row("first touch of one's own range", samples.of(&Sample::first_touch)),
                   row("limit: message, round trip", samples.of(&Sample::message)),
                   row("limit: message, and a page back", samples.of(&Sample::page)),
                   row("limit: messages to 1 and back, processors shared", samples.fan_out(0)),
                   row("limit: messages to 3 and back, processors shared", samples.fan_out(1)),
                   row("limit: raw userfault", samples.of(&Sample::uffd))}};
  report.table.rows.push_back(
      {"reading through another's range, GB/s", fmt::format("{:.2f}", samples.number(&Sample::stream_gbps)), "", ""});
  report.notes = {
      "nodes are processes that take turns over loopback TCP; the time that a page may be kept from others is left out",
      fmt::format("limit: raw loopback TCP, {}, and a userfault answered with UFFDIO_COPY; the page's transfer is what "
                  "its exchange takes less half a round trip of messages; taken in every repeat",
                  how_both_ends_wait()),
      "a write to what the other wrote can take less: its message goes one way, and the page is the answer",
      fmt::format("four nodes share this machine's processors: 3 sharers take {:.2f}× the time of 1, and the raw "
                  "messages to 3 and back {:.2f}×",
                  samples.forget_ratio(), samples.fan_out_ratio())};
  report.bars = {{"Coherence", "limit of the first", {}}};
  auto bar = [&](const char* what, double us, double limit) {
    report.bars[0].bars.push_back({what, us, limit, fmt::format("{:.1f} µs", us)});
  };
  bar("write to what the other wrote", samples.of(&Sample::write).p50_us, samples.limit_us());
  bar("write to what 1 other has read", samples.forget(0).p50_us, 0);
  bar("write to what 3 others have read", samples.forget(1).p50_us, 0);
  bar("first touch", samples.of(&Sample::first_touch).p50_us, 0);
  report.wrong = samples.wrong;
  return report;
}

}  // namespace

Result<Report> measure_pingpong(const Options& options, std::string* problem) {
  Samples samples;
  for (size_t repeat = 1; repeat <= options.repeats; ++repeat) {
    options.say(fmt::format("repeat {} of {}", repeat, options.repeats));
    HEC_TRY(measure_once(options, samples, problem));
  }
  return report_of(samples);
}

}  // namespace hecaton::bench
