#include "store/page_seal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "os/memory.h"

namespace hecaton {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint64_t kPages = 64;

Bytes noise(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

class PageSealTest : public testing::Test {
 protected:
  static SealState new_state(Mapping& memory) {
    memory = Mapping::sparse(SealState::bytes_for(kPages)).value();
    SealState made = SealState::at(memory.data(), kPages);
    made.lock().value();
    made.make_key();
    return made;
  }
  Bytes sealed(PageNumber of, uint32_t version, const Bytes& plain) {
    Bytes out(plain.size());
    seal.seal(of, version, plain, out.data());
    return out;
  }
  // Nothing, if it does not open.
  std::optional<Bytes> opened(PageNumber of, uint32_t version, const Bytes& bytes) {
    Bytes out(bytes.size());
    return seal.open(of, version, bytes, out.data()) ? std::optional(out) : std::nullopt;
  }

  Mapping memory;
  SealState state = new_state(memory);
  PageSeal seal = PageSeal::create(state).value();
  const PageNumber page{7};
};

TEST_F(PageSealTest, APageOpensAsItWasSealedWholeOrShort) {
  for (size_t length : {size_t{1}, size_t{15}, size_t{16}, size_t{17}, size_t{1000}, kPageBytes}) {
    const Bytes plain = noise(length, length);
    EXPECT_EQ(opened(page, 3, sealed(page, 3, plain)), plain) << length;
  }
}

TEST_F(PageSealTest, SealsAndOpensInPlace) {
  const Bytes plain = noise(kPageBytes, 1);
  Bytes bytes = plain;
  seal.seal(page, 1, bytes, bytes.data());
  EXPECT_NE(bytes, plain);
  ASSERT_TRUE(seal.open(page, 1, bytes, bytes.data()));
  EXPECT_EQ(bytes, plain);
}

TEST_F(PageSealTest, NoBitOfTheBytesCanBeChanged) {
  const Bytes good = sealed(page, 1, noise(kPageBytes, 2));
  for (size_t bit = 0; bit < kPageBytes * 8; ++bit) {
    Bytes bytes = good;
    bytes[bit / 8] ^= std::byte{1} << bit % 8;
    ASSERT_FALSE(opened(page, 1, bytes)) << bit;
  }
  EXPECT_TRUE(opened(page, 1, good));
}

TEST_F(PageSealTest, AShorterOrLongerAnswerDoesNotOpen) {
  Bytes bytes = sealed(page, 1, noise(1000, 3));
  bytes.push_back(std::byte{0});
  EXPECT_FALSE(opened(page, 1, bytes));
  bytes.resize(999);
  EXPECT_FALSE(opened(page, 1, bytes));
  EXPECT_FALSE(opened(page, 1, {}));
}

TEST_F(PageSealTest, AnotherPageOfTheSameVmDoesNotOpen) {
  const Bytes plain = noise(kPageBytes, 4);
  const Bytes one = sealed(PageNumber(1), 1, plain), two = sealed(PageNumber(2), 1, plain);
  EXPECT_NE(one, two);
  EXPECT_FALSE(opened(PageNumber(1), 1, two));
  EXPECT_FALSE(opened(PageNumber(2), 1, one));
  // Nor with the other page's record: the page's number is bound to it.
  std::swap(state.records[1], state.records[2]);
  EXPECT_FALSE(opened(PageNumber(1), 1, two));
}

TEST_F(PageSealTest, AnOlderPageDoesNotOpenAsANewerVersion) {
  const Bytes old = sealed(page, 5, noise(kPageBytes, 5));
  const Bytes newer = sealed(page, 6, noise(kPageBytes, 6));
  EXPECT_FALSE(opened(page, 5, old));
  EXPECT_FALSE(opened(page, 6, old));
  EXPECT_FALSE(opened(page, 5, newer)) << "the version is bound to it";
  EXPECT_TRUE(opened(page, 6, newer));
}

// The table's versions have 21 bits: the one that was sent two million write-backs ago comes again.
TEST_F(PageSealTest, AnOlderPageDoesNotOpenWhenItsVersionHasComeRoundAgain) {
  const Bytes plain = noise(kPageBytes, 7);
  const Bytes old = sealed(page, 5, plain);
  const Bytes again = sealed(page, 5, plain);
  EXPECT_NE(old, again) << "the same page and version under a nonce that was used before";
  EXPECT_FALSE(opened(page, 5, old));
  EXPECT_TRUE(opened(page, 5, again));
}

TEST_F(PageSealTest, APageThatWasNeverSealedDoesNotOpen) {
  EXPECT_FALSE(opened(page, 0, Bytes(kPageBytes)));
  EXPECT_FALSE(opened(page, 1, noise(kPageBytes, 8)));
}

TEST_F(PageSealTest, AnotherVmsKeyDoesNotOpenIt) {
  Mapping other_memory;
  const SealState other = new_state(other_memory);
  const Bytes bytes = sealed(page, 1, noise(kPageBytes, 9));
  other.records[page.value] = state.records[page.value];
  Bytes out(kPageBytes);
  EXPECT_FALSE(PageSeal::create(other).value().open(page, 1, bytes, out.data()));
}

TEST_F(PageSealTest, ThreadsAndSuccessorsNeverUseANonceTwice) {
  constexpr size_t kThreads = 4, kRounds = 10, kEach = 20'000;
  std::barrier together(kThreads);
  std::vector<std::vector<uint64_t>> used(kThreads);
  for (int generation = 0; generation < 2; ++generation) {
    std::vector<std::thread> threads;
    for (size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        // As after a takeover: the state as it lies in memory is all that is left.
        const SealState found = SealState::at(memory.data(), kPages);
        PageSeal mine = PageSeal::create(found).value();
        const Bytes plain = noise(16, t);
        Bytes out(16);
        for (size_t i = 0; i < kRounds * kEach; ++i) {
          if (i % kEach == 0) together.arrive_and_wait();  // so that they really meet
          mine.seal(PageNumber(t), 1, plain, out.data());
          used[t].push_back(found.records[t].number);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::vector<uint64_t> all;
  for (const std::vector<uint64_t>& some : used) all.insert(all.end(), some.begin(), some.end());
  std::sort(all.begin(), all.end());
  EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end());
  EXPECT_EQ(all.size(), 2 * kThreads * kRounds * kEach);
  EXPECT_GT(all.front(), 0u);
}

// A pager that takes over has the memory, and nothing else.
TEST_F(PageSealTest, ASuccessorOpensWhatWasSealedBefore) {
  const Bytes plain = noise(kPageBytes, 10);
  const Bytes bytes = sealed(page, 9, plain);
  Bytes out(kPageBytes);
  ASSERT_TRUE(PageSeal::create(SealState::at(memory.data(), kPages)).value().open(page, 9, bytes, out.data()));
  EXPECT_EQ(out, plain);
}

TEST_F(PageSealTest, WhatLeavesHasNothingOfTheKeyOrThePage) {
  Bytes plain(kPageBytes);
  const char text[] = "a secret of the guest: ";
  for (size_t i = 0; i < plain.size(); ++i) plain[i] = static_cast<std::byte>(text[i % (sizeof text - 1)]);
  const Bytes bytes = sealed(page, 1, plain);
  const auto has = [&](std::span<const std::byte> part) {
    return std::search(bytes.begin(), bytes.end(), part.begin(), part.end()) != bytes.end();
  };
  for (size_t at = 0; at < sizeof text - 1; ++at) EXPECT_FALSE(has(std::span(plain).subspan(at, 8))) << at;
  EXPECT_FALSE(has(std::span(state.head->key).first(8)));
}

TEST_F(PageSealTest, EachVmHasAKeyOfItsOwn) {
  Mapping other_memory;
  EXPECT_NE(state.head->key, new_state(other_memory).head->key);
  EXPECT_TRUE(
      std::any_of(state.head->key.begin(), state.head->key.end(), [](std::byte b) { return b != std::byte{0}; }));
}

}  // namespace
}  // namespace hecaton
