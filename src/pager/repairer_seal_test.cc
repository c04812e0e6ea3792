// A donor that lies about a sealed page does not get its lie to the other copies by way of repair.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "pager/no_memory_for_tests.h"
#include "pager/repairer.h"

namespace hecaton {
namespace {

constexpr uint64_t kPages = 8;
constexpr size_t kSource = 0, kTarget = 1;

class RepairerSealTest : public testing::Test, public RepairBackend {
 protected:
  struct Stored {
    wire::PageEntry entry;
    std::vector<std::byte> bytes;
  };

  RepairerSealTest() {
    placement_.add_donor({1, 1});
    placement_.place(ExtentNumber(0));
    placement_.add_donor({2, 1});
    states_.set(kSource, DonorState::kLive);
    states_.set(kTarget, DonorState::kLive);
    for (PageNumber page(0); page.value < kPages; ++page) at_source_.push_back(send_away(page));
  }
  static SealState new_seal(std::vector<SealRecord>& memory) {
    const SealState seal = SealState::at(reinterpret_cast<std::byte*>(memory.data()), kPages);
    seal.make_key();
    return seal;
  }
  // The page becomes Remote, sealed in its first version.
  Stored send_away(PageNumber page) {
    EXPECT_TRUE(state_.table.begin_fill(page));
    state_.table.finish_fetch(page, PageTable::Arrival::kDirty);
    const uint32_t version = state_.table.begin_leave(page)->version;
    state_.table.release(page);
    Stored stored{{page, 0, version}, std::vector<std::byte>(kPageBytes, static_cast<std::byte>(page.value))};
    seal_.seal(page, version, stored.bytes, stored.bytes.data());
    EXPECT_TRUE(state_.table.commit_remote(page, version));
    state_.table.release(page);
    stored.entry.checksum = wire::page_checksum(stored.bytes, page, version);
    return stored;
  }
  std::vector<std::byte> answer() const {
    std::vector<wire::PageEntry> entries;
    for (const Stored& stored : at_source_) entries.push_back(stored.entry);
    std::vector<std::byte> body(wire::page_set_head_bytes(entries.size()));
    wire::encode_page_set_head(entries, body.data());
    for (const Stored& stored : at_source_) body.insert(body.end(), stored.bytes.begin(), stored.bytes.end());
    return body;
  }
  bool usable(size_t) const override { return true; }
  CopySet place(ExtentNumber extent) override { return placement_.place(extent); }
  bool repair_read(uint64_t piece, size_t donor, std::span<const PageNumber> pages) override {
    EXPECT_EQ(donor, kSource);
    piece_ = piece;
    asked_ += pages.size();
    return true;
  }
  bool repair_write(uint64_t, size_t donor, std::span<const wire::PageEntry> entries, std::span<const iovec>) override {
    EXPECT_EQ(donor, kTarget);
    for (const wire::PageEntry& entry : entries) copied_.push_back(entry.page.value);
    return true;
  }
  void forget_extent(size_t, ExtentNumber) override {}
  void repair() {
    repairer_.look_again();
    repairer_.step(0);
    ASSERT_EQ(asked_, kPages);
    ASSERT_TRUE(repairer_.on_read(piece_, wire::Status::kOk, answer()).ok());
  }

  NoMemory memory_;
  std::vector<PageTable::Word> words_ = std::vector<PageTable::Word>(kPages);
  std::vector<PlacementTable::Word> copies_ = std::vector<PlacementTable::Word>(1);
  PlacementTable placement_{copies_, Protection::kMirror, 2};
  std::vector<SealRecord> seal_memory_ = std::vector<SealRecord>(SealState::bytes_for(kPages) / sizeof(SealRecord) + 1);
  PagerState state_{words_,        Budget::kMinimumPages, memory_, placement_, Stripes(),
                    OnLoss::kStop, new_seal(seal_memory_)};
  PageSeal seal_ = PageSeal::create(*state_.seal).value();
  DonorStates states_{2};
  Repairer repairer_{state_, states_, *this, 1_GiB};
  std::vector<Stored> at_source_;
  std::vector<uint64_t> copied_;
  size_t asked_ = 0;
  uint64_t piece_ = 0;
};

TEST_F(RepairerSealTest, CopiesPagesAsTheyWereSealed) {
  repair();
  EXPECT_THAT(copied_, testing::ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST_F(RepairerSealTest, LeavesOutWhatTheSourceLiesAbout) {
  at_source_[3].bytes = at_source_[4].bytes;
  at_source_[6].bytes[100] ^= std::byte{1};
  for (Stored& stored : at_source_) {
    stored.entry.checksum = wire::page_checksum(stored.bytes, stored.entry.page, stored.entry.version);
  }
  repair();
  EXPECT_THAT(copied_, testing::ElementsAre(0, 1, 2, 4, 5, 7));
}

}  // namespace
}  // namespace hecaton
