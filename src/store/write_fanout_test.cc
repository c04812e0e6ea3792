#include "store/write_fanout.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

constexpr ExtentNumber kExtent(3);
constexpr PageNumber kPage(3 * kPagesPerExtent + 5);

class Fanout : public testing::Test {
 protected:
  WriteFanout::Answer answer(uint64_t id, size_t donor, wire::Status status = wire::Status::kOk,
                             std::vector<PageNumber> rejected = {}) {
    const std::vector<std::byte> body = wire::encode_write_reply(rejected);
    Result<WriteFanout::Answer> answer = fanout.answered(id, donor, now, status, body);
    EXPECT_TRUE(answer.ok());
    return answer.ok() ? *answer : WriteFanout::Answer{};
  }

  WriteFanout fanout{4};
  const CopySet two = CopySet().with(0, true).with(7, true);
  CopySet now = two;
};

TEST_F(Fanout, SettlesWithTheLastAnswer) {
  const uint64_t id = fanout.begin(2, kExtent, two);
  EXPECT_FALSE(answer(id, 7).settled);
  const auto last = answer(id, 0);
  EXPECT_TRUE(last.settled);
  EXPECT_FALSE(last.failed);
  EXPECT_EQ(last.batch, 2u);
  EXPECT_TRUE(fanout.rejected().empty());
}

TEST_F(Fanout, WhatOneDonorRejectsIsRejected) {
  const uint64_t id = fanout.begin(0, kExtent, two);
  answer(id, 0, wire::Status::kOk, {kPage});
  ASSERT_TRUE(answer(id, 7).settled);
  ASSERT_EQ(fanout.rejected().size(), 1u);
  EXPECT_EQ(fanout.rejected()[0], kPage);
}

TEST_F(Fanout, ADonorAnswersOnce) {
  const uint64_t id = fanout.begin(0, kExtent, two);
  answer(id, 0);
  EXPECT_FALSE(answer(id, 0).known);
  EXPECT_FALSE(answer(id, 3).known) << "that donor was not asked";
  EXPECT_TRUE(answer(id, 7).settled);
}

TEST_F(Fanout, FailsIfTheCopiesChangedMeanwhile) {
  const uint64_t id = fanout.begin(0, kExtent, two);
  now = two.without(7).with(8, false);
  answer(id, 0);
  EXPECT_TRUE(answer(id, 7).failed);
}

TEST_F(Fanout, DoesNotFailBecauseACopyBecameComplete) {
  const CopySet filling = CopySet().with(0, true).with(7, false);
  const uint64_t id = fanout.begin(0, kExtent, filling);
  answer(id, 0);
  EXPECT_FALSE(answer(id, 7).failed);
}

TEST_F(Fanout, FailsIfADonorHasNoRoom) {
  const uint64_t id = fanout.begin(0, kExtent, two);
  EXPECT_TRUE(answer(id, 0, wire::Status::kFull).full);
  EXPECT_TRUE(answer(id, 7).failed);
}

TEST_F(Fanout, KnowsAnAnswerToABatchThatWasGivenUp) {
  const uint64_t old = fanout.begin(1, kExtent, two);
  EXPECT_EQ(fanout.owes(1, 0), kExtent);
  fanout.give_up(1);
  EXPECT_FALSE(fanout.owes(1, 0));
  EXPECT_FALSE(answer(old, 0).known);
  const uint64_t next = fanout.begin(1, kExtent, two);
  EXPECT_FALSE(answer(old, 0).known);
  EXPECT_TRUE(answer(next, 0).known);
}

TEST_F(Fanout, TreatsNonsenseAsABreachOfProtocol) {
  const uint64_t id = fanout.begin(0, kExtent, two);
  EXPECT_FALSE(fanout.answered(200, 0, now, wire::Status::kOk, {}).ok());
  EXPECT_FALSE(fanout.answered(id, 0, now, wire::Status::kOk, std::array<std::byte, 3>{}).ok());
  const uint64_t other = fanout.begin(1, kExtent, two);
  EXPECT_FALSE(
      fanout.answered(other, 0, now, wire::Status::kOk, wire::encode_write_reply(std::array{PageNumber(0)})).ok());
  EXPECT_FALSE(fanout.answered(fanout.begin(2, kExtent, two), 0, now, wire::Status::kRefused, {}).ok());
}

// Else its batch would wait for ever: what a donor owes is given up with it.
TEST_F(Fanout, ABreachOfProtocolIsNoAnswer) {
  const uint64_t id = fanout.begin(0, kExtent, two);
  answer(id, 7);
  EXPECT_FALSE(fanout.answered(id, 0, now, wire::Status::kOk, std::array<std::byte, 3>{}).ok());
  EXPECT_EQ(fanout.owes(0, 0), kExtent);
}

}  // namespace
}  // namespace hecaton
