#include "donor/next_speaker.h"

#include <gtest/gtest.h>

namespace hecaton::donor {
namespace {

void speak(NextSpeaker& next, size_t connection, int times) {
  for (int i = 0; i < times; ++i) next.spoke(connection);
}

TEST(NextSpeaker, IsNobodyBeforeAnyoneHasSpoken) {
  const NextSpeaker next;
  EXPECT_EQ(next.guess(), NextSpeaker::kNone);
  EXPECT_EQ(next.last(), NextSpeaker::kNone);
}

TEST(NextSpeaker, IsTheOneThatSpeaksAgainAndAgain) {
  NextSpeaker next;
  speak(next, 3, 16);
  EXPECT_EQ(next.guess(), 3u);
}

TEST(NextSpeaker, IsNotGuessedWhileManyTakeTurns) {
  NextSpeaker next;
  for (size_t i = 0; i < 1000; ++i) {
    next.spoke(i % 5);
    EXPECT_EQ(next.guess(), NextSpeaker::kNone);
  }
}

TEST(NextSpeaker, IsNotGuessedWhileTwoTakeTurns) {
  NextSpeaker next;
  speak(next, 0, 16);
  for (size_t i = 0; i < 6; ++i) next.spoke(i % 2);
  EXPECT_EQ(next.guess(), NextSpeaker::kNone);
}

TEST(NextSpeaker, IsGuessedAgainOnceOneHasSpokenOftenEnough) {
  NextSpeaker next;
  for (size_t i = 0; i < 1000; ++i) next.spoke(i);
  speak(next, 7, 16);
  EXPECT_EQ(next.guess(), 7u);
}

TEST(NextSpeaker, IsNobodyOnceItIsForgotten) {
  NextSpeaker next;
  speak(next, 3, 16);
  next.forget();
  EXPECT_EQ(next.guess(), NextSpeaker::kNone);
}

}  // namespace
}  // namespace hecaton::donor
