// A few cores, whose messages the tests carry. What all interleavings do is tests/coherence's to find out.
#include "coherence/core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <string>

namespace hecaton::coherence {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr ProcessorNumber kProcessor(0);
constexpr PageNumber kPage(0), kOther(1);

// Node 0 is the home of `pages` pages; others have none.
class Nodes {
 public:
  explicit Nodes(size_t count, uint64_t pages = 2) {
    std::vector<uint64_t> ranges(count, 0);
    ranges[0] = pages;
    for (size_t i = 0; i < count; ++i) cores_.emplace_back(Config{NodeId(i), HomeMap(ranges), 1, 100});
  }

  Core& operator[](size_t node) { return cores_[node]; }
  int64_t now = 1'000'000;

  // What the core wants done, "send KIND to N" or the action's name; messages go onto the wire.
  std::vector<std::string> fault(size_t node, PageNumber page, Access access) {
    return take(node, [&](Actions& actions) { return cores_[node].fault(kProcessor, page, access, now, actions); });
  }
  std::vector<std::string> timer(size_t node) {
    return take(node, [&](Actions& actions) { return cores_[node].timer(now, actions); });
  }
  std::vector<std::string> lose(size_t node, size_t lost, Loss& loss) {
    return take(node, [&](Actions& actions) { return cores_[node].node_lost(NodeId(lost), now, actions, loss); });
  }
  // Delivers the oldest message.
  std::vector<std::string> deliver() {
    const Letter letter = wire_.front();
    wire_.pop_front();
    return take(letter.to, [&](Actions& actions) {
      return cores_[letter.to].receive(NodeId(letter.from), letter.message, now, actions);
    });
  }
  void deliver_all() {
    while (!wire_.empty()) deliver();
  }
  size_t on_the_wire() const { return wire_.size(); }
  const Message& next_message() const { return wire_.front().message; }
  size_t carried() const { return carried_; }
  void drop_all() { wire_.clear(); }

  void settle(size_t node, PageNumber page, Access access) {
    fault(node, page, access);
    deliver_all();
    now += 1000;
  }
  Result<void> say(size_t from, size_t to, const Message& message) {
    Actions actions;
    return cores_[to].receive(NodeId(from), message, now, actions);
  }

 private:
  struct Letter {
    size_t from, to;
    Message message;
  };

  template <typename Tell>
  std::vector<std::string> take(size_t node, Tell tell) {
    Actions actions;
    Result<void> result = tell(actions);
    EXPECT_TRUE(result.ok()) << result.error().context;
    std::vector<std::string> names;
    for (const Action& action : actions) {
      if (action.kind != ActionKind::kSend) {
        names.emplace_back(name_of(action.kind));
        continue;
      }
      names.push_back(std::string("send ") + wire::name_of(action.message.kind) + " to " +
                      std::to_string(action.to.value));
      wire_.push_back({node, action.to.value, action.message});
      carried_ += action.message.carries_page;
    }
    return names;
  }

  std::vector<Core> cores_;
  std::deque<Letter> wire_;
  size_t carried_ = 0;
};

Message message(Kind kind, PageNumber page = kPage) {
  Message m;
  m.kind = kind;
  m.page = page;
  return m;
}

TEST(Core, TheFirstTouchOfAPageOfTheOwnRangeNeedsNoMessage) {
  Nodes nodes(2);
  EXPECT_THAT(nodes.fault(0, kPage, Access::kRead), ElementsAre("make zero", "map to write"));
  EXPECT_EQ(nodes[0].state(kPage), NodeState::kExclusive);
}

TEST(Core, AnUntouchedPageGoesToAWriterElsewhereWithoutItsBytes) {
  Nodes nodes(2);
  EXPECT_THAT(nodes.fault(1, kPage, Access::kWrite), ElementsAre("send write to 0"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("send exclusive to 1"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("make zero", "map to write"));
  EXPECT_EQ(nodes.carried(), 0u);
}

TEST(Core, AReaderGetsACopyAndTheOwnerKeepsOneWriteProtectedBeforeItIsSent) {
  Nodes nodes(2);
  nodes.settle(0, kPage, Access::kWrite);
  nodes.fault(1, kPage, Access::kRead);
  EXPECT_THAT(nodes.deliver(), ElementsAre("protect", "send shared to 1"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("keep", "map to read"));
  EXPECT_EQ(nodes[0].state(kPage), NodeState::kShared);
  EXPECT_EQ(nodes[0].directory().state(kPage), HomeState::kShared);
}

TEST(Core, AnUpgradeCarriesNoBytesAndWaitsForAllWhoForget) {
  Nodes nodes(4);
  nodes.settle(0, kPage, Access::kWrite);
  for (size_t reader : {1, 2, 3}) nodes.settle(reader, kPage, Access::kRead);
  const size_t before = nodes.carried();
  nodes.fault(1, kPage, Access::kWrite);
  // At once to all of them: 0 is the home, and forgets its own copy.
  EXPECT_THAT(nodes.deliver(), ElementsAre("send upgrade to 1", "send invalidate to 2", "send invalidate to 3", "zap",
                                           "drop", "send forgotten to 1"));
  EXPECT_THAT(nodes.deliver(), IsEmpty());
  EXPECT_EQ(nodes[1].state(kPage), NodeState::kGathers);
  EXPECT_THAT(nodes.deliver(), ElementsAre("zap", "drop", "send forgotten to 1"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("zap", "drop", "send forgotten to 1"));
  EXPECT_THAT(nodes.deliver(), IsEmpty());
  EXPECT_THAT(nodes.deliver(), IsEmpty());
  EXPECT_THAT(nodes.deliver(), ElementsAre("map to write", "send done to 0"));
  EXPECT_EQ(nodes.carried(), before);
}

TEST(Core, OfTwoWhoUpgradeAtOnceTheSecondGetsTheBytesAsWell) {
  Nodes nodes(3);
  nodes.settle(0, kPage, Access::kWrite);
  for (size_t reader : {1, 2}) nodes.settle(reader, kPage, Access::kRead);
  nodes.fault(1, kPage, Access::kWrite);
  nodes.fault(2, kPage, Access::kWrite);
  nodes.deliver_all();
  EXPECT_EQ(nodes[1].state(kPage), NodeState::kExclusive);
  EXPECT_EQ(nodes[2].state(kPage), NodeState::kAsksWrite);
  const size_t before = nodes.carried();
  nodes.now += 1000;
  EXPECT_THAT(nodes.timer(1), ElementsAre("zap", "send exclusive to 2", "drop"));
  nodes.deliver_all();
  EXPECT_EQ(nodes[2].state(kPage), NodeState::kExclusive);
  EXPECT_EQ(nodes.carried(), before + 1);
}

TEST(Core, BytesGoFromTheOwnerToWhoAsksAndNotThroughTheHome) {
  Nodes nodes(3);
  nodes.settle(1, kPage, Access::kWrite);
  nodes.fault(2, kPage, Access::kWrite);
  EXPECT_THAT(nodes.deliver(), ElementsAre("send fetch exclusive to 1"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("zap", "send exclusive to 2", "drop"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("keep", "map to write", "send done to 0"));
}

TEST(Core, APageThatIsReadAndThenWrittenByOneAfterTheOtherGoesToItsReaderAtOnce) {
  Nodes nodes(3);
  nodes.settle(1, kPage, Access::kWrite);
  nodes.settle(2, kPage, Access::kRead);
  nodes.settle(2, kPage, Access::kWrite);
  EXPECT_TRUE(nodes[0].directory().migratory(kPage));
  nodes.settle(1, kPage, Access::kRead);
  EXPECT_EQ(nodes[1].state(kPage), NodeState::kClean);
  EXPECT_EQ(nodes[2].state(kPage), NodeState::kInvalid);
  EXPECT_THAT(nodes.fault(1, kPage, Access::kWrite), ElementsAre("map to write"));
}

TEST(Core, APageThatItsReaderDidNotWriteWandersNoMore) {
  Nodes nodes(3);
  nodes.settle(1, kPage, Access::kWrite);
  nodes.settle(2, kPage, Access::kRead);
  nodes.settle(2, kPage, Access::kWrite);
  nodes.settle(1, kPage, Access::kRead);
  nodes.settle(2, kPage, Access::kRead);
  EXPECT_FALSE(nodes[0].directory().migratory(kPage));
  nodes.settle(1, kPage, Access::kRead);
  EXPECT_EQ(nodes[1].state(kPage), NodeState::kShared);
  EXPECT_EQ(nodes[2].state(kPage), NodeState::kShared);
}

TEST(Core, APageThatJustCameIsNotGivenBeforeItsTime) {
  Nodes nodes(3);
  nodes.fault(1, kPage, Access::kWrite);
  nodes.deliver_all();
  nodes.fault(2, kPage, Access::kWrite);
  nodes.deliver();
  EXPECT_THAT(nodes.deliver(), ElementsAre("timer"));
  EXPECT_EQ(nodes[1].timer_ns(), nodes.now + 100);
  nodes.now += 99;
  EXPECT_THAT(nodes.timer(1), IsEmpty());
  nodes.now += 1;
  EXPECT_THAT(nodes.timer(1), ElementsAre("zap", "send exclusive to 2", "drop"));
  EXPECT_EQ(nodes[1].timer_ns(), INT64_MAX);
}

TEST(Core, AFaultThatIsToldLateMapsThePageAndWakes) {
  Nodes nodes(2);
  nodes.settle(1, kPage, Access::kWrite);
  EXPECT_THAT(nodes.fault(1, kPage, Access::kRead), ElementsAre("map to write"));
  EXPECT_EQ(nodes.on_the_wire(), 0u);
}

TEST(Core, ReadersAreServedSideBySideAndAWriterAfterThem) {
  Nodes nodes(5);
  nodes.settle(1, kPage, Access::kWrite);
  nodes.fault(2, kPage, Access::kRead);
  nodes.fault(3, kPage, Access::kRead);
  nodes.fault(4, kPage, Access::kWrite);
  EXPECT_THAT(nodes.deliver(), ElementsAre("send fetch shared to 1"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("send fetch shared to 1"));
  EXPECT_THAT(nodes.deliver(), IsEmpty());
  EXPECT_THAT(nodes.deliver(), ElementsAre("protect", "send shared to 2"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("send shared to 3"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("keep", "map to read", "send done to 0"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("keep", "map to read", "send done to 0"));
  EXPECT_THAT(nodes.deliver(), IsEmpty());  // the first is done
  EXPECT_THAT(nodes.deliver(), testing::Contains("send fetch exclusive to 1"));
}

TEST(Core, WhatAHomeGivesItCountsAsDoneAndServesTheNext) {
  Nodes nodes(3);
  nodes.settle(0, kPage, Access::kWrite);
  nodes.fault(1, kPage, Access::kWrite);
  nodes.fault(2, kPage, Access::kWrite);
  EXPECT_THAT(nodes.deliver(), ElementsAre("zap", "send exclusive to 1", "drop"));
  EXPECT_EQ(nodes[0].directory().state(kPage), HomeState::kExclusive);
  EXPECT_THAT(nodes.deliver(), ElementsAre("send fetch exclusive to 1"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("keep", "map to write"));
}

TEST(Core, WhatAHomeGivesIsNotDoneBeforeOthersHaveForgottenTheirCopies) {
  Nodes nodes(3);
  nodes.settle(1, kPage, Access::kRead);
  nodes.fault(2, kPage, Access::kWrite);
  EXPECT_THAT(nodes.deliver(), UnorderedElementsAre("send invalidate to 1", "send exclusive to 2", "zap", "drop"));
  EXPECT_EQ(nodes[0].directory().state(kPage), HomeState::kMoving);
  nodes.deliver_all();
  EXPECT_EQ(nodes[0].directory().state(kPage), HomeState::kExclusive);
}

TEST(CoreAndPeers, WhatAnHonestNodeNeverSaysIsAnError) {
  Nodes nodes(3);
  nodes.settle(1, kPage, Access::kWrite);
  for (Kind kind :
       {Kind::kRead, Kind::kWrite, Kind::kDone, Kind::kFetchShared, Kind::kFetchExclusive, Kind::kInvalidate,
        Kind::kUpgrade, Kind::kLost, Kind::kShared, Kind::kExclusive, Kind::kForgotten}) {
    Result<void> result = nodes.say(1, 0, message(kind));
    ASSERT_FALSE(result.ok()) << wire::name_of(kind);
    EXPECT_EQ(result.error().code, ErrorCode::kProtocol);
  }
  EXPECT_EQ(nodes[0].directory().owner(kPage), NodeId(1));
}

TEST(CoreAndPeers, APageOrANodeThatIsNotIsAnError) {
  Nodes nodes(2);
  EXPECT_FALSE(nodes.say(1, 0, message(Kind::kRead, PageNumber(2))).ok());
  Actions actions;
  EXPECT_FALSE(nodes[0].receive(NodeId(7), message(Kind::kRead), 0, actions).ok());
  EXPECT_FALSE(nodes[0].receive(NodeId(0), message(Kind::kRead), 0, actions).ok());
  EXPECT_FALSE(nodes[1].receive(NodeId(0), message(Kind::kRead), 0, actions).ok());  // it is nobody's home
  EXPECT_THAT(actions, IsEmpty());
}

TEST(CoreAndPeers, AskingTwiceIsAnError) {
  Nodes nodes(3);
  nodes.settle(2, kPage, Access::kWrite);
  EXPECT_TRUE(nodes.say(1, 0, message(Kind::kWrite)).ok());
  EXPECT_FALSE(nodes.say(1, 0, message(Kind::kWrite)).ok());
  EXPECT_FALSE(nodes.say(1, 0, message(Kind::kRead)).ok());
}

TEST(CoreAndPeers, ANodeThatAsksForTooManyPagesIsRefused) {
  Nodes nodes(4, 2000);
  for (uint64_t page = 0; page < 2000; ++page) nodes.settle(2, PageNumber(page), Access::kWrite);
  for (uint64_t page = 0; page < Directory::kMostRequestsOfANode; ++page) {
    ASSERT_TRUE(nodes.say(1, 0, message(Kind::kWrite, PageNumber(page))).ok());
  }
  EXPECT_FALSE(nodes.say(1, 0, message(Kind::kWrite, PageNumber(1999))).ok());
  EXPECT_TRUE(nodes.say(3, 0, message(Kind::kWrite, PageNumber(1999))).ok());
}

TEST(CoreAndPeers, AMessageOfAnEarlierTurnIsAnError) {
  Nodes nodes(3);
  nodes.settle(1, kPage, Access::kWrite);
  nodes.fault(2, kPage, Access::kWrite);
  nodes.deliver_all();
  Message done = message(Kind::kDone);
  done.version = 1;  // it is the second
  EXPECT_FALSE(nodes.say(2, 0, done).ok());
}

TEST(CoreAfterALoss, PagesWhoseNewestBytesWereThereAreNamed) {
  Nodes nodes(3, 5);
  nodes.settle(1, PageNumber(1), Access::kWrite);
  nodes.settle(1, PageNumber(2), Access::kWrite);
  nodes.settle(1, PageNumber(4), Access::kWrite);
  nodes.settle(2, PageNumber(4), Access::kRead);  // so its bytes are at 2 as well
  Loss loss;
  nodes.lose(0, 1, loss);
  EXPECT_THAT(loss.pages, ElementsAre(PageRun{PageNumber(1), 2}));
  EXPECT_EQ(loss.homeless, (PageRun{PageNumber(5), 0}));
  EXPECT_EQ(nodes[0].directory().owner(PageNumber(4)), NodeId(2));
}

TEST(CoreAfterALoss, WhoAsksForALostPageIsToldAndNeverGetsZeros) {
  Nodes nodes(3);
  nodes.settle(1, kPage, Access::kWrite);
  Loss loss;
  nodes.lose(0, 1, loss);
  nodes.lose(2, 1, loss);
  nodes.fault(2, kPage, Access::kRead);
  EXPECT_THAT(nodes.deliver(), ElementsAre("send lost to 2"));
  EXPECT_THAT(nodes.deliver(), ElementsAre("fail"));
  EXPECT_THAT(nodes.fault(2, kPage, Access::kRead), ElementsAre("fail"));
  EXPECT_THAT(nodes.fault(0, kPage, Access::kRead), ElementsAre("fail"));
}

TEST(CoreAfterALoss, WhoWaitsForADeadNodeToForgetGoesOn) {
  Nodes nodes(3);
  nodes.settle(0, kPage, Access::kWrite);
  for (size_t reader : {1, 2}) nodes.settle(reader, kPage, Access::kRead);
  nodes.fault(1, kPage, Access::kWrite);
  nodes.deliver();
  ASSERT_EQ(nodes.next_message().kind, Kind::kUpgrade);
  nodes.deliver();
  nodes.drop_all();  // among it what 2 was told, and what 0 said of its own copy
  Message forgotten = message(Kind::kForgotten);
  forgotten.version = nodes[0].directory().has(kPage) ? 1 : 0;
  EXPECT_TRUE(nodes.say(0, 1, forgotten).ok());
  Loss loss;
  EXPECT_THAT(nodes.lose(1, 2, loss), ElementsAre("map to write", "send done to 0"));
  EXPECT_THAT(loss.pages, IsEmpty());
}

TEST(CoreAfterALoss, PagesOfADeadHomeStayWhereTheyAreAndNoMoreCanBeHad) {
  Nodes nodes(3);
  nodes.settle(1, kPage, Access::kWrite);
  Loss loss;
  nodes.lose(1, 0, loss);
  EXPECT_EQ(loss.homeless, (PageRun{kPage, 2}));
  EXPECT_THAT(nodes.fault(1, kPage, Access::kWrite), ElementsAre("map to write"));
  EXPECT_THAT(nodes.fault(1, kOther, Access::kRead), ElementsAre("fail"));
}

TEST(CoreAfterALoss, WhatADeadNodeStillSaysIsRefused) {
  Nodes nodes(3);
  Loss loss;
  nodes.lose(0, 1, loss);
  EXPECT_FALSE(nodes.say(1, 0, message(Kind::kRead)).ok());
}

}  // namespace
}  // namespace hecaton::coherence
