#include "store/donor_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "donor/server.h"
#include "os/own_loopback_for_tests.h"

namespace hecaton {
namespace {

constexpr size_t kDonors = 5;
constexpr int64_t kPatienceMs = 60'000;  // far beyond what anything takes

class DonorPoolTest : public testing::Test {
 protected:
  std::unique_ptr<DonorServer> donors_ =
      DonorServer::start({.lends_bytes = 4_MiB, .donors = kDonors, .threads = 1}).value();

  Result<std::unique_ptr<DonorPool>> open(size_t most_links, std::string* problem) {
    PoolConfig config;
    for (size_t i = 0; i < kDonors; ++i) config.nodes.push_back(donors_->address(i));
    config.vm_name = "vm";
    config.region_bytes = 2 * kDonors * kExtentBytes;
    config.most_links = most_links;
    config.connect_ms = kPatienceMs;
    return DonorPool::open(config, problem);
  }
  std::unique_ptr<DonorPool> open(size_t most_links) {
    std::string problem;
    auto pool = open(most_links, &problem);
    EXPECT_TRUE(pool.ok()) << problem;
    return std::move(pool).value();
  }

  static PageNumber first_of(uint64_t extent) { return PageNumber(extent * kPagesPerExtent); }
  static std::vector<std::byte> bytes_of(PageNumber page) {
    return std::vector<std::byte>(kPageBytes, std::byte(1 + page.value / kPagesPerExtent));
  }
  // Writes the first page of an extent; the answer is not read.
  static void send_write(DonorPool& pool, uint64_t extent) {
    const PageNumber page = first_of(extent);
    std::vector<std::byte> bytes = bytes_of(page);
    const wire::PageEntry entry{page, wire::page_checksum(bytes, page, 1), 1, wire::PageState::kPresent};
    const iovec piece{bytes.data(), bytes.size()};
    Link& link = pool.write_back(pool.placement().place(ExtentNumber(extent))[0].donor);
    ASSERT_TRUE(link.send_write(extent, std::span(&entry, 1), std::span(&piece, 1)).ok());
  }
  // Waits for answers of any of the links that `poller` watches; the ids of those that came.
  template <typename LinkOf>
  static std::vector<uint64_t> await(Poller& poller, LinkOf link_of, std::vector<std::byte>* body_out = nullptr) {
    std::vector<uint64_t> ids;
    while (ids.empty()) {
      epoll_event event{};
      if (poller.wait(std::span(&event, 1), 10'000) == 0) {
        ADD_FAILURE() << "no answer";
        break;
      }
      auto take = [&](const wire::FrameHeader& header, std::span<const std::byte> body) -> Result<void> {
        EXPECT_EQ(header.status, wire::Status::kOk);
        ids.push_back(header.request_id);
        if (body_out) body_out->assign(body.begin(), body.end());
        return {};
      };
      Result<size_t> frames = link_of(event.data.u64).receive(take);
      EXPECT_TRUE(frames.ok());
      if (!frames.ok()) break;
    }
    return ids;
  }
};

TEST_F(DonorPoolTest, ASmallPoolIsConnectedAtOnce) {
  auto pool = open(kDonors);
  EXPECT_EQ(pool->connections(), 3 * kDonors);
}

TEST_F(DonorPoolTest, ABigPoolOpensConnectionsWhenTheyAreUsedAndNeverTooMany) {
  auto pool = open(2);
  EXPECT_EQ(pool->connections(), kDonors);
  Poller writes = Poller::create().value(), reads = Poller::create().value();
  ASSERT_TRUE(pool->write_back_links().watch(writes).ok());
  ASSERT_TRUE(pool->prefetch_links().watch(reads).ok());
  for (uint64_t extent = 0; extent < 2 * kDonors; ++extent) {
    send_write(*pool, extent);
    EXPECT_EQ(await(writes, [&](uint64_t donor) -> Link& { return pool->write_back(donor); }), std::vector{extent});
  }
  for (uint64_t extent = 0; extent < 2 * kDonors; ++extent) {
    const PageNumber page = first_of(extent);
    ASSERT_TRUE(pool->prefetch(pool->placement().copies_of(ExtentNumber(extent))[0].donor)
                    .send_read(extent, std::span(&page, 1))
                    .ok());
    std::vector<std::byte> body;
    auto link_of = [&](uint64_t donor) -> Link& { return pool->prefetch(donor); };
    EXPECT_EQ(await(reads, link_of, &body), std::vector{extent});
    auto answer = wire::PageSetView::decode(body);
    ASSERT_TRUE(answer.ok());
    ASSERT_EQ(answer->present(), 1u);
    EXPECT_EQ(std::memcmp(answer->stored(0).data(), bytes_of(page).data(), kPageBytes), 0);
  }
  EXPECT_EQ(pool->connections(), kDonors + 2 + 2);
}

TEST_F(DonorPoolTest, AConnectionThatOwesAnAnswerStaysOpen) {
  auto pool = open(1);
  Poller writes = Poller::create().value();
  ASSERT_TRUE(pool->write_back_links().watch(writes).ok());
  for (uint64_t extent = 0; extent < 2 * kDonors; ++extent) send_write(*pool, extent);
  std::vector<uint64_t> answered;
  while (answered.size() < 2 * kDonors && !HasFailure()) {
    for (uint64_t id : await(writes, [&](uint64_t donor) -> Link& { return pool->write_back(donor); })) {
      answered.push_back(id);
    }
  }
  ASSERT_EQ(answered.size(), 2 * kDonors);
  std::sort(answered.begin(), answered.end());
  for (uint64_t extent = 0; extent < 2 * kDonors; ++extent) EXPECT_EQ(answered[extent], extent);
}

TEST_F(DonorPoolTest, ADonorThatIsNamedTwiceIsRefused) {
  PoolConfig config;
  config.nodes = {donors_->address(0), donors_->address(1), donors_->address(0)};
  config.vm_name = "vm";
  config.region_bytes = kExtentBytes;
  std::string problem;
  EXPECT_FALSE(DonorPool::open(config, &problem).ok());
  EXPECT_NE(problem.find("name it once"), std::string::npos) << problem;
}

TEST_F(DonorPoolTest, AConnectionThatCannotBeMadeAnyMoreIsAnError) {
  auto pool = open(2);
  donors_->stop();
  const PageNumber page(0);
  EXPECT_FALSE(pool->prefetch(0).send_read(1, std::span(&page, 1)).ok());
}

TEST_F(DonorPoolTest, TokensAndTheirLackAreToldInWords) {
  constexpr const char* kToken = "a-token-for-the-tests-of-the-pool";
  auto donor =
      DonorServer::start({.lends_bytes = 64_MiB, .threads = 1, .tls = TlsContext::donor_with_token(kToken).value()});
  PoolConfig config;
  config.nodes.push_back(donor.value()->address());
  config.vm_name = "vm";
  config.region_bytes = 8_MiB;
  std::string problem;
  EXPECT_FALSE(DonorPool::open(config, &problem).ok());
  EXPECT_NE(problem.find("this donor wants TLS"), std::string::npos) << problem;
  config.nodes[0].token = "another-token-that-is-not-the-one";
  EXPECT_FALSE(DonorPool::open(config, &problem).ok());
  EXPECT_NE(problem.find("does not accept this token"), std::string::npos) << problem;
  EXPECT_EQ(problem.find(config.nodes[0].token), std::string::npos) << problem;
  config.nodes[0].token.clear();
  config.credentials = Credentials::make(kToken, {}, &problem).value();
  auto pool = DonorPool::open(config, &problem);
  EXPECT_TRUE(pool.ok()) << problem;
}

TEST_F(DonorPoolTest, AnotherMachineIsRefusedUnlessItIsCoveredOrTheUserInsists) {
  PoolConfig config;
  config.nodes.push_back(parse_node_url("192.0.2.1").value());
  config.connect_ms = 1;  // nobody is there
  std::string problem;
  EXPECT_EQ(DonorPool::open(config, &problem).error().code, ErrorCode::kPermission);
  EXPECT_NE(problem.find("--token-file"), std::string::npos) << problem;
  EXPECT_NE(problem.find("--insecure"), std::string::npos) << problem;
  config.nodes[0].token = "a-token-for-the-tests-of-the-pool";
  EXPECT_NE(DonorPool::open(config, &problem).error().code, ErrorCode::kPermission);
  config.nodes[0].rdma = true;
  EXPECT_EQ(DonorPool::open(config, &problem).error().code, ErrorCode::kPermission);
  config.nodes[0].token.clear();
  EXPECT_EQ(DonorPool::open(config, &problem).error().code, ErrorCode::kPermission);
}

// What outlives a pager, and its donors.
struct Takeover : DonorPoolTest {
  Takeover() {
    donors_ =
        DonorServer::start({.lends_bytes = 4_MiB, .donors = kDonors, .threads = 1, .grace_ms = 3'600'000}).value();
    for (size_t i = 0; i < kDonors; ++i) config_.nodes.push_back(donors_->address(i));
    config_.vm_name = "vm";
    config_.region_bytes = 2 * kDonors * kExtentBytes;
    config_.identity.instance = 77;
    config_.connect_ms = kPatienceMs;
    config_.placement_words = words_;
    config_.records = records_;
  }
  std::unique_ptr<DonorPool> next_pager() {
    std::string problem;
    auto pool = DonorPool::open(config_, &problem);
    EXPECT_TRUE(pool.ok()) << problem;
    ++config_.identity.epoch;
    return std::move(pool).value();
  }

  std::vector<PlacementTable::Word> words_{std::vector<PlacementTable::Word>(2 * kDonors)};
  std::vector<MemberRecord> records_{std::vector<MemberRecord>(2048)};
  PoolConfig config_;
};

TEST_F(Takeover, ADonorThatIsInThePoolByAnotherNameIsNotAdded) {
  auto pool = next_pager();
  NodeUrl alias = config_.nodes[1];
  alias.host = "localhost";
  std::string problem;
  ASSERT_FALSE(pool->add(alias, &problem).ok());
  EXPECT_NE(problem.find("same hecatond"), std::string::npos) << problem;
  EXPECT_EQ(pool->donors(), kDonors);
}

TEST_F(Takeover, ADonorThatWasDrainedStaysSoThoughItIsStartedAnew) {
  std::string problem;
  auto pool = next_pager();
  DonorConfig config{.lends_bytes = 4_MiB, .threads = 1, .grace_ms = 3'600'000};
  config.listen.host = own_loopback();
  auto away = DonorServer::start(config).value();
  const NodeUrl url = away->address(0);
  ASSERT_TRUE(pool->add(url, &problem).ok()) << problem;
  ASSERT_TRUE(pool->drain(url, &problem).ok()) << problem;
  away.reset();
  pool->connection_ended(kDonors, Error{ErrorCode::kClosed, 0, "its process ended"});
  int64_t now = 0;
  for (; pool->states().of(kDonors) != DonorState::kLost; now += 1'000'000'000) pool->tend(now);
  config.listen = url;
  away = DonorServer::start(config).value();
  for (int i = 0; i < 100 && pool->donors() == kDonors + 1; ++i, now += 10'000'000'000) pool->tend(now);
  ASSERT_EQ(pool->donors(), kDonors + 2) << "it is in the pool again";
  EXPECT_TRUE(pool->placement().is_leaving(kDonors + 1));
  EXPECT_FALSE(pool->placement().is_open(kDonors + 1));
}

TEST_F(Takeover, ADonorThatIsBackAndHasAllReservedForTheVmStillHasItsRoomAgain) {
  config_.region_bytes = 4 * kDonors * kExtentBytes;
  std::vector<PlacementTable::Word> words(4 * kDonors);
  config_.placement_words = words;
  auto pool = next_pager();
  ASSERT_EQ(pool->placement().capacity(1), 4u);
  pool->connection_ended(1, Error{ErrorCode::kProtocol, 0, "it spoke out of turn"});
  ASSERT_EQ(pool->states().of(1), DonorState::kLost);
  pool->tend(1'000'000'000);
  ASSERT_EQ(pool->donors(), kDonors + 1) << "it is in the pool again";
  EXPECT_EQ(pool->placement().capacity(kDonors), 4u);
}

TEST_F(Takeover, FindsThePagesOfTheEarlierPager) {
  {
    auto pool = next_pager();
    Poller writes = Poller::create().value();
    ASSERT_TRUE(pool->write_back_links().watch(writes).ok());
    send_write(*pool, 3);
    await(writes, [&](uint64_t donor) -> Link& { return pool->write_back(donor); });
  }
  auto pool = next_pager();
  const CopySet copies = pool->placement().copies_of(ExtentNumber(3));
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(pool->placement().placed_at(copies[0].donor), 1u);
  Poller reads = Poller::create().value();
  ASSERT_TRUE(pool->prefetch_links().watch(reads).ok());
  const PageNumber page = first_of(3);
  ASSERT_TRUE(pool->prefetch(copies[0].donor).send_read(3, std::span(&page, 1)).ok());
  std::vector<std::byte> body;
  await(
      reads, [&](uint64_t donor) -> Link& { return pool->prefetch(donor); }, &body);
  auto answer = wire::PageSetView::decode(body);
  ASSERT_TRUE(answer.ok());
  ASSERT_EQ(answer->present(), 1u);
  EXPECT_EQ(std::memcmp(answer->stored(0).data(), bytes_of(page).data(), kPageBytes), 0);
}

TEST_F(Takeover, KeepsTheSharesThoughNothingIsFreeAnyMore) {
  config_.region_bytes = 4 * kDonors * kExtentBytes;
  std::vector<PlacementTable::Word> words(4 * kDonors);
  config_.placement_words = words;
  next_pager();
  EXPECT_EQ(donors_->stats().reserved_bytes, config_.region_bytes);
  next_pager();
  EXPECT_EQ(donors_->stats().reserved_bytes, config_.region_bytes);
}

TEST_F(Takeover, ADonorThatWasStartedAnewIsLostAndNobodyElse) {
  next_pager();
  records_[2].instance ^= 1;
  auto pool = next_pager();
  EXPECT_EQ(pool->states().of(2), DonorState::kLost);
  EXPECT_EQ(pool->states().of(3), DonorState::kLive);
  EXPECT_NE(pool->trouble(2).find("anew"), std::string::npos) << pool->trouble(2);
}

TEST_F(Takeover, ADonorThatGaveTheRegionUpIsLost) {
  next_pager();
  records_[2].region_id ^= 1;
  EXPECT_EQ(next_pager()->states().of(2), DonorState::kLost);
}

TEST_F(Takeover, ADonorThatIsOutOfReachIsCut) {
  next_pager();
  const std::string nowhere = "127.0.0.1:1";
  std::memset(records_[2].url, 0, sizeof records_[2].url);
  std::memcpy(records_[2].url, nowhere.data(), nowhere.size());
  auto pool = next_pager();
  EXPECT_EQ(pool->states().of(2), DonorState::kCut);
  EXPECT_EQ(pool->demand(0, 2), nullptr);
}

TEST_F(Takeover, ADonorThatWasAddedOrRemovedMeanwhileIsKnown) {
  auto more = DonorServer::start({.lends_bytes = 4_MiB, .threads = 1, .grace_ms = 3'600'000}).value();
  std::string problem;
  {
    auto pool = next_pager();
    ASSERT_TRUE(pool->add(more->address(0), &problem).ok()) << problem;
    ASSERT_TRUE(pool->remove(config_.nodes[1], false, &problem).ok()) << problem;
    ASSERT_TRUE(pool->drain(config_.nodes[0], &problem).ok()) << problem;
  }
  auto pool = next_pager();
  ASSERT_EQ(pool->donors(), kDonors + 1);
  EXPECT_EQ(pool->states().of(kDonors), DonorState::kLive);
  EXPECT_EQ(pool->url(kDonors), more->address(0));
  EXPECT_EQ(pool->states().of(1), DonorState::kGone);
  EXPECT_FALSE(pool->shown(1));
  EXPECT_TRUE(pool->placement().is_leaving(0));
}

TEST_F(Takeover, ARemovalThatWasCutShortIsFinished) {
  next_pager();
  config_.placement_words[0].store(CopySet().with(2, true).word());
  for (size_t donor : {1, 2}) records_[donor].flags.fetch_or(MemberRecord::kRemoved);
  auto pool = next_pager();
  EXPECT_EQ(pool->states().of(1), DonorState::kGone);
  EXPECT_EQ(pool->states().of(2), DonorState::kLost) << "its copies are to be dealt with";
  EXPECT_FALSE(pool->shown(1));
  EXPECT_EQ(pool->states().of(3), DonorState::kLive);
  EXPECT_EQ(records_[1].state.load(), MemberRecord::kGone);
  EXPECT_EQ(records_[2].state.load(), MemberRecord::kLost);
}

TEST_F(Takeover, DamagedRecordsEndIt) {
  next_pager();
  config_.placement_words[0].store(CopySet().with(kDonors + 7, true).word());
  std::string problem;
  auto pool = DonorPool::open(config_, &problem);
  ASSERT_FALSE(pool.ok());
  EXPECT_EQ(pool.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(donors_->stats().regions, kDonors) << "the next pager needs them";
}

TEST_F(Takeover, AVmThatIsOverIsForgotten) {
  auto pool = next_pager();
  pool->close_regions();
  pool.reset();
  donors_->stop();
  EXPECT_EQ(donors_->stats().regions, 0u);
}

}  // namespace
}  // namespace hecaton
