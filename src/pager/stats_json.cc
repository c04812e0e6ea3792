#include <nlohmann/json.hpp>

#include "base/version.h"
#include "pager/pager.h"

namespace hecaton {

std::string stats_json(const PagerStats& stats, const std::string& mode, const std::string& accel) {
  nlohmann::ordered_json json;
  json["mode"] = mode;
  json["accel"] = accel;
  json["guest_ram_bytes"] = stats.guest_ram_bytes;
  json["local_limit_bytes"] = stats.local_limit_bytes;
  json["resident_bytes"] = stats.resident_bytes;
  json["resident_peak_bytes"] = stats.resident_peak_bytes;
  json["remote_bytes"] = stats.remote_bytes;
  json["faults"] = stats.faults;
  json["faults_zero"] = stats.faults_zero;
  json["faults_remote"] = stats.faults_remote;
  json["faults_minor"] = stats.faults_minor;
  json["faults_protect"] = stats.faults_protect;
  json["faults_late"] = stats.faults_late;
  json["faults_stalled"] = stats.faults_stalled;
  json["rdma_read_pages"] = stats.rdma_read_pages;
  json["prefetched_pages"] = stats.prefetched_pages;
  json["prefetch_used_pages"] = stats.prefetch_used_pages;
  json["prefetch_late_faults"] = stats.prefetch_late_faults;
  json["prefetch_pauses"] = stats.prefetch_pauses;
  json["prefetch_paused"] = stats.prefetch_paused;
  json["evicted_pages"] = stats.evicted_pages;
  json["written_back_pages"] = stats.written_back_pages;
  json["zero_pages"] = stats.zero_pages;
  json["compression"] = stats.compressing ? "on" : "off";
  json["compressed_pages"] = stats.compressed_pages;
  json["wire_bytes_written"] = stats.wire_bytes_written;
  json["sealed"] = stats.sealed;
  json["bad_seals"] = stats.bad_seals;
  json["discarded_pages"] = stats.discarded_pages;
  json["taken_back_pages"] = stats.taken_back_pages;
  json["refetched_pages"] = stats.refetched_pages;
  json["fault_us"] = {{"p50", stats.fault_us_p50},
                      {"p90", stats.fault_us_p90},
                      {"p99", stats.fault_us_p99},
                      {"max", stats.fault_us_max}};
  json["nodes"] = nlohmann::ordered_json::array();
  for (const PagerStats::Node& node : stats.nodes) {
    json["nodes"].push_back({{"url", node.url}, {"state", node.state}, {"bytes", node.bytes}});
  }
  json["protection"] = stats.protection;
  json["exposed_bytes"] = stats.exposed_bytes;
  json["reprotected_bytes"] = stats.reprotected_bytes;
  json["repaired_pages"] = stats.repaired_pages;
  json["hedged_reads"] = stats.hedged_reads;
  json["failed_over_reads"] = stats.failed_over_reads;
  json["lost_pages"] = stats.lost_pages;
  json["table_bytes_per_page"] = stats.table_bytes_per_page;
  json["threads"] = stats.threads;
  json["shards"] = stats.shards;
  json["connections"] = stats.connections;
  json["pager_restarts"] = stats.pager_restarts;
  json["version"] = kVersion;
  return json.dump();
}

}  // namespace hecaton
