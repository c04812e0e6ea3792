#include "capi/paged_region.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "base/random.h"
#include "wire/token.h"

namespace hecaton {
namespace {

// Some thread may sleep in a fault with stdio's lock, or a pipe's, in its hands: the message must not wait for it for
// ever. An alarm ends the process if it does.
void say_and_abort(const LossReport& loss) {
  const std::string text =
      fmt::format("hecaton: paged memory is lost, this process cannot go on: {} ({} pages)\n", loss.reason, loss.pages);
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  signal(SIGALRM, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
  alarm(1);
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, text.data(), text.size());
  abort();
}

// `token`: empty: none.
Result<std::unique_ptr<DonorServer>> start_embedded_donor(uint64_t bytes, const std::string& token) {
  DonorConfig config;
  if (!token.empty()) config.tls = HEC_TRY(TlsContext::donor_with_token(token));
  config.lends_bytes = extents_in(pages_in(bytes)) * kExtentBytes;
  config.threads = 1;
  return DonorServer::start(config);
}

// A userfaultfd for each shard, with its stripes.
Result<std::vector<Userfaultfd>> register_stripes(Stripes stripes, RemoteAddress base, uint64_t bytes) {
  std::vector<Userfaultfd> uffds;
  while (uffds.size() < stripes.shards()) uffds.push_back(HEC_TRY(Userfaultfd::create()));
  for (PageRun left{PageNumber(0), pages_in(bytes)}; left.count > 0;) {
    const PageRun stripe = stripes.within_stripe(left);
    const Userfaultfd& uffd = uffds[stripes.shard_of(stripe.first)];
    HEC_TRY(uffd.register_range(base + stripe.first.value * kPageBytes, stripe.count * kPageBytes));
    left = PageRun{stripe.end(), left.count - stripe.count};
  }
  return uffds;
}

}  // namespace

Result<std::unique_ptr<PagedRegion>> PagedRegion::open(PagedRegionConfig config, std::string* problem) {
  auto explain = [&](auto result) {
    if (!result.ok()) *problem = result.error().describe();
    return result;
  };
  std::unique_ptr<PagedRegion> region(new PagedRegion());
  const uint64_t bytes = pages_in(config.bytes) * kPageBytes;
  UffdFeatures features = HEC_TRY(explain(Userfaultfd::probe()));
  if (!features.enough_for_memory_mode()) {
    *problem =
        "this kernel's userfaultfd lacks minor faults or write protection for shared memory; Linux 5.19 has them";
    return Error{ErrorCode::kUnsupported, 0, "userfaultfd features"};
  }
  region->memfd_ = HEC_TRY(explain(create_memfd("hecaton-region", bytes)));
  PagerConfig pager;
  pager.name = fmt::format("region-{}-{:x}", getpid(), random_id());
  pager.region_bytes = bytes;
  pager.local_bytes = std::min(config.local_bytes, std::max(bytes, PagerConfig::kMinimumLocalBytes));
  pager.prefetch_pages = config.prefetch_pages;
  pager.compression = config.compression;
  pager.seal = config.seal;
  pager.nodes = config.nodes;
  pager.insecure = config.insecure;
  pager.credentials = config.credentials;
  pager.shards = config.shards > 0 ? config.shards : auto_shards(std::thread::hardware_concurrency());
  pager.protection = config.protection;
  pager.on_lost_memory = config.on_lost_memory;
  pager.repair_bytes_per_second = config.repair_bytes_per_second;
  pager.on_notice = config.on_notice;
  pager.on_loss = config.on_loss ? config.on_loss : say_and_abort;
  if (pager.nodes.empty()) {
    const std::string token = config.embedded_tls ? make_token() : std::string();
    region->donor_ = HEC_TRY(explain(start_embedded_donor(bytes, token)));
    pager.nodes.push_back(region->donor_->address());
    pager.nodes.back().token = token;
  }
  region->pager_ = HEC_TRY(Pager::create(std::move(pager), region->memfd_.get(), problem));
  region->user_view_ = HEC_TRY(explain(Mapping::shared(region->memfd_.get(), bytes)));
  madvise(region->data(), bytes, MADV_DONTFORK);  // a child would read zeros from what is remote
  // In a program that locks all of its memory, the kernel has just filled both mappings: begin with none of it.
  munlock(region->data(), bytes);
  HEC_TRY(explain(punch_hole(region->memfd_.get(), 0, bytes)));
  const RemoteAddress base{reinterpret_cast<uint64_t>(region->data())};
  auto uffds = HEC_TRY(explain(register_stripes(region->pager_->stripes(), base, bytes)));
  HEC_TRY(explain(region->pager_->attach(std::move(uffds), base, features)));
  return region;
}

PagedRegion::~PagedRegion() {
  user_view_ = Mapping();
  pager_.reset();
  donor_.reset();
}

}  // namespace hecaton
