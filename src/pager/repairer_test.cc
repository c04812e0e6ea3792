#include "pager/repairer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "pager/no_memory_for_tests.h"

namespace hecaton {
namespace {

constexpr uint64_t kPages = 2 * kPagesPerExtent;
constexpr size_t kDonors = 4;

class RepairerTest : public testing::Test, public RepairBackend {
 protected:
  RepairerTest() {
    for (uint64_t donor = 0; donor < kDonors; ++donor) {
      placement.add_donor({donor + 1, 2});
      states.set(donor, DonorState::kLive);
    }
    page.fill(std::byte{7});
  }

  // A page at donors, in its first version.
  void leave(PageNumber number) {
    ASSERT_TRUE(state.table.begin_fill(number));
    state.table.finish_fetch(number, PageTable::Arrival::kDirty);
    leave_again(number);
  }
  void leave_again(PageNumber number) {
    const auto leave = state.table.begin_leave(number);
    ASSERT_TRUE(leave);
    state.table.release(number);
    ASSERT_TRUE(state.table.commit_remote(number, leave->version));
    state.table.release(number);
  }
  // An extent of which one copy was lost: its source is left.
  size_t expose(ExtentNumber extent) {
    const CopySet copies = placement.place(extent);
    states.set(copies[1].donor, DonorState::kLost);
    placement.drop(extent, copies[1].donor);
    placement.set_open(copies[1].donor, false);
    return copies[0].donor;
  }
  std::vector<std::byte> answer_with(uint32_t version, bool damaged = false) {
    std::vector<wire::PageEntry> entries;
    for (PageNumber number : asked) {
      entries.push_back({number, wire::page_checksum(page, number, version) + damaged, version});
    }
    std::vector<std::byte> body(wire::page_set_head_bytes(entries.size()));
    wire::encode_page_set_head(entries, body.data());
    for (size_t i = 0; i < entries.size(); ++i) body.insert(body.end(), page.begin(), page.end());
    return body;
  }
  bool step_until_asked() {
    asked.clear();
    for (int n = 0; n < 8 && asked.empty(); ++n) repairer.step(now += 1'000'000'000);
    return !asked.empty();
  }
  void step() { repairer.step(now += 1'000'000'000); }
  Result<void> written_well() { return repairer.on_written(piece, wire::Status::kOk, wire::encode_write_reply({})); }

  bool usable(size_t donor) const override { return states.live(donor); }
  CopySet place(ExtentNumber extent) override {
    return placement.place(extent, [this](size_t donor) { return states.live(donor); });
  }
  bool repair_read(uint64_t number, size_t, std::span<const PageNumber> pages) override {
    piece = number;
    asked.assign(pages.begin(), pages.end());
    return true;
  }
  bool repair_write(uint64_t number, size_t donor, std::span<const wire::PageEntry> entries,
                    std::span<const iovec>) override {
    piece = number;
    target = donor;
    wrote += entries.size();
    return true;
  }
  void forget_extent(size_t, ExtentNumber) override {}

  NoMemory memory;
  std::vector<PageTable::Word> words = std::vector<PageTable::Word>(kPages);
  std::vector<PlacementTable::Word> copy_words = std::vector<PlacementTable::Word>(2);
  PlacementTable placement{copy_words, Protection::kMirror, kDonors};
  PagerState state{words, 64, memory, placement};
  DonorStates states{kDonors};
  Repairer repairer{state, states, *this, 1_GiB};
  std::array<std::byte, kPageBytes> page;
  std::vector<PageNumber> asked;
  uint64_t piece = 0;
  size_t target = 0, wrote = 0;
  int64_t now = 0;
};

TEST_F(RepairerTest, CopiesWhatIsAtDonorsAndCallsTheCopyComplete) {
  leave(PageNumber(3));
  expose(ExtentNumber(0));
  repairer.look_again();
  ASSERT_TRUE(step_until_asked());
  EXPECT_EQ(asked, std::vector<PageNumber>{PageNumber(3)});
  ASSERT_TRUE(repairer.on_read(piece, wire::Status::kOk, answer_with(1)).ok());
  step();
  EXPECT_EQ(placement.copies_of(ExtentNumber(0)).complete_copies(), 1u) << "before it is acknowledged";
  ASSERT_TRUE(written_well().ok());
  step();
  EXPECT_EQ(placement.copies_of(ExtentNumber(0)).complete_copies(), 2u);
}

TEST_F(RepairerTest, AsksAgainForAPageThatCameDamagedBeforeTheCopyIsComplete) {
  leave(PageNumber(3));
  expose(ExtentNumber(0));
  repairer.look_again();
  ASSERT_TRUE(step_until_asked());
  ASSERT_TRUE(repairer.on_read(piece, wire::Status::kOk, answer_with(1, true)).ok());
  ASSERT_TRUE(step_until_asked());
  EXPECT_EQ(placement.copies_of(ExtentNumber(0)).complete_copies(), 1u);
  ASSERT_TRUE(repairer.on_read(piece, wire::Status::kOk, answer_with(1)).ok());
  EXPECT_EQ(wrote, 1u);
}

TEST_F(RepairerTest, CopiesNoOlderVersionThanTheTableHas) {
  leave(PageNumber(3));
  ASSERT_TRUE(state.table.begin_fetch(PageNumber(3)));
  state.table.finish_fetch(PageNumber(3), PageTable::Arrival::kDirty);
  leave_again(PageNumber(3));
  expose(ExtentNumber(0));
  repairer.look_again();
  ASSERT_TRUE(step_until_asked());
  ASSERT_TRUE(repairer.on_read(piece, wire::Status::kOk, answer_with(1)).ok());
  EXPECT_EQ(wrote, 0u);
}

TEST_F(RepairerTest, PassesOverTheLateAnswerOfAPieceThatWasGivenUp) {
  leave(PageNumber(3));
  leave(PageNumber(kPagesPerExtent + 5));
  const size_t source = expose(ExtentNumber(0));
  placement.place(ExtentNumber(1), [&](size_t donor) { return donor == source; });
  repairer.look_again();
  ASSERT_TRUE(step_until_asked());
  const uint64_t given_up = piece;
  const std::vector<std::byte> late = answer_with(1);
  repairer.give_up(source);
  ASSERT_TRUE(step_until_asked());
  ASSERT_NE(piece, given_up);
  EXPECT_TRUE(repairer.on_read(given_up, wire::Status::kOk, late).ok()) << "it is no breach of the protocol";
  EXPECT_EQ(wrote, 0u);
  EXPECT_TRUE(repairer.waits_for_donor());
}

TEST_F(RepairerTest, BeginsAnewWithACopyThatWasDroppedMeanwhile) {
  leave(PageNumber(3));
  expose(ExtentNumber(0));
  repairer.look_again();
  ASSERT_TRUE(step_until_asked());
  ASSERT_TRUE(repairer.on_read(piece, wire::Status::kOk, answer_with(1)).ok());
  placement.drop(ExtentNumber(0), target);
  repairer.copy_dropped(ExtentNumber(0), target);
  place(ExtentNumber(0));
  ASSERT_TRUE(written_well().ok());
  ASSERT_TRUE(step_until_asked()) << "all of it is copied anew";
  EXPECT_EQ(placement.copies_of(ExtentNumber(0)).complete_copies(), 1u);
}

TEST_F(RepairerTest, PlacesNoCopyAtADonorThatIsSilent) {
  leave(PageNumber(3));
  const size_t source = expose(ExtentNumber(0));
  for (size_t donor = 0; donor < kDonors; ++donor) {
    if (donor != source && states.live(donor)) states.set(donor, DonorState::kSilent);
  }
  repairer.look_again();
  EXPECT_FALSE(step_until_asked());
  EXPECT_EQ(placement.copies_of(ExtentNumber(0)).size(), 1u);
  EXPECT_EQ(repairer.lacking_copies(), 1u);
}

TEST_F(RepairerTest, MovesAnExtentOfWhichBothCopiesAreAtLeavingDonors) {
  leave(PageNumber(3));
  const CopySet before = placement.place(ExtentNumber(0));
  for (size_t i = 0; i < 2; ++i) {
    placement.set_open(before[i].donor, false);
    placement.set_leaving(before[i].donor, true);
  }
  repairer.look_again();
  for (int copy = 0; copy < 2; ++copy) {
    ASSERT_TRUE(step_until_asked()) << copy;
    ASSERT_TRUE(repairer.on_read(piece, wire::Status::kOk, answer_with(1)).ok());
    ASSERT_TRUE(written_well().ok());
    step();
    EXPECT_GE(placement.copies_of(ExtentNumber(0)).complete_copies(), 2u) << "protected all the while";
  }
  const CopySet after = placement.copies_of(ExtentNumber(0));
  EXPECT_EQ(after.complete_copies(), 2u);
  for (size_t i = 0; i < 2; ++i) EXPECT_FALSE(after.has(before[i].donor));
}

TEST_F(RepairerTest, ADonorThatRejectsWhatItWasNotSentBreaksTheProtocol) {
  leave(PageNumber(3));
  expose(ExtentNumber(0));
  repairer.look_again();
  ASSERT_TRUE(step_until_asked());
  ASSERT_TRUE(repairer.on_read(piece, wire::Status::kOk, answer_with(1)).ok());
  const PageNumber other(4);
  EXPECT_FALSE(repairer.on_written(piece, wire::Status::kOk, wire::encode_write_reply(std::span(&other, 1))).ok());
}

}  // namespace
}  // namespace hecaton
