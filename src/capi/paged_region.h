// Paged memory in this process: what the C interface and the benches stand on. One region: a memfd mapped twice (once
// for the user, once for the pager), userfaultfds on the user's mapping, a pager, and an embedded donor if none is
// named.
//
// open and destruction: any thread, with nobody else touching the region.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "donor/server.h"
#include "os/memory.h"
#include "os/userfaultfd.h"
#include "pager/pager.h"

namespace hecaton {

struct PagedRegionConfig {
  uint64_t bytes = 0;
  uint64_t local_bytes = 0;
  std::vector<NodeUrl> nodes;     // empty: an embedded donor
  bool insecure = false;          // nodes beyond this machine, unencrypted: the user has said that it may be so
  Credentials credentials = {};   // besides the tokens of the nodes' URLs
  bool embedded_tls = false;      // the embedded donor wants a token, and gets it: for measurements
  uint64_t prefetch_pages = 256;  // 0: off
  unsigned shards = 0;            // fault threads; 0: as many as suit this machine
  Compression compression = Compression::kAuto;
  bool seal = false;                                         // encrypt and authenticate every page before it leaves
  std::optional<Protection> protection = Protection::kNone;  // nothing: as PagerConfig
  OnLoss on_lost_memory = OnLoss::kStop;
  uint64_t repair_bytes_per_second = 256_MiB;
  std::function<void(const std::string&)> on_notice;
  std::function<void(const LossReport&)> on_loss;  // default: say it and abort
};

class PagedRegion {
 public:
  static Result<std::unique_ptr<PagedRegion>> open(PagedRegionConfig config, std::string* problem);
  ~PagedRegion();

  std::byte* data() const { return user_view_.data(); }
  size_t size() const { return user_view_.size(); }
  PagerStats stats() const { return pager_->stats(); }
  Pager& pager() { return *pager_; }
  const FaultTrace& last_demand() const { return pager_->last_demand(); }
  int memfd() const { return memfd_.get(); }

 private:
  PagedRegion() = default;
  OwnedFd memfd_;
  std::unique_ptr<DonorServer> donor_;
  std::unique_ptr<Pager> pager_;
  Mapping user_view_;  // goes first: after it no fault can come
};

}  // namespace hecaton
