// All copies of some memory are gone: with --on-loss poison whoever touches it gets a memory error, and the rest goes
// on.
#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>

#include <cstring>
#include <future>

#include "capi/paged_region.h"

namespace hecaton {
namespace {

constexpr uint64_t kPages = 2048;

sigjmp_buf after_the_error;

void on_bus_error(int) {
  siglongjmp(after_the_error, 1);
}

uint64_t word_of(uint64_t page) {
  return (page + 1) * 0x9e3779b97f4a7c15ull;
}

class LossTest : public testing::Test {
 protected:
  void SetUp() override {
    Result<UffdFeatures> features = Userfaultfd::probe();
    if (!features.ok() || !features->poison()) GTEST_SKIP() << "this kernel cannot poison pages (Linux 6.6)";
    struct sigaction action {};
    action.sa_handler = on_bus_error;
    action.sa_flags = SA_NODEFER;
    sigaction(SIGBUS, &action, &before_);
    donor_ = DonorServer::start({.lends_bytes = kPages * kPageBytes}).value();
    PagedRegionConfig config;
    config.bytes = kPages * kPageBytes;
    config.local_bytes = config.bytes / 8;
    config.prefetch_pages = 0;
    config.nodes = {donor_->address()};
    config.on_lost_memory = OnLoss::kPoison;
    config.on_loss = [this](const LossReport& loss) { lost_.set_value(loss.pages); };
    std::string problem;
    auto region = PagedRegion::open(std::move(config), &problem);
    ASSERT_TRUE(region.ok()) << problem;
    region_ = std::move(region).value();
    for (uint64_t page = 0; page < kPages; ++page) *word(page) = word_of(page);
  }
  void TearDown() override {
    region_.reset();
    if (before_.sa_handler) sigaction(SIGBUS, &before_, nullptr);
  }
  volatile uint64_t* word(uint64_t page) {
    return reinterpret_cast<volatile uint64_t*>(region_->data() + page * kPageBytes);
  }
  // Nothing: a memory error.
  std::optional<uint64_t> read(uint64_t page) {
    if (sigsetjmp(after_the_error, 1) != 0) return std::nullopt;
    return *word(page);
  }

  struct sigaction before_ {};
  std::unique_ptr<DonorServer> donor_;
  std::promise<uint64_t> lost_;
  std::unique_ptr<PagedRegion> region_;
};

TEST_F(LossTest, PoisonsWhatIsGoneAndKeepsTheRest) {
  donor_->stop();
  donor_.reset();
  const uint64_t told = lost_.get_future().get();
  EXPECT_GT(told, kPages / 2);
  uint64_t lost = 0;
  for (uint64_t page = 0; page < kPages; ++page) {
    const std::optional<uint64_t> got = read(page);
    lost += !got;
    if (got) {
      ASSERT_EQ(*got, word_of(page)) << page;
    }
    ASSERT_EQ(read(page), got) << "the same again: " << page;
  }
  EXPECT_EQ(lost, told);
}

}  // namespace
}  // namespace hecaton
