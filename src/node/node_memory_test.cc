#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "base/sanitized_for_tests.h"
#include "node/cluster_for_tests.h"
#include "node/node.h"

namespace hecaton::node {
namespace {

// Both ways to map a protected page: that of kernels from 6.4 on, where this is one, and that of those before.
class NodeOnBothKernels : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam() && !CoherentMemory::maps_protected().value()) GTEST_SKIP() << "this kernel is before 6.4";
  }
  std::function<void(NodeConfig&)> way() {
    return [](NodeConfig& config) { config.protected_map = GetParam(); };
  }
};
INSTANTIATE_TEST_SUITE_P(Ways, NodeOnBothKernels, testing::Bool(),
                         [](const auto& way) { return way.param ? "Continue" : "Copy"; });

TEST_P(NodeOnBothKernels, WhatOneNodeWritesTheOtherReads) {
  Cluster nodes({4, 4}, way());
  for (uint64_t page = 0; page < 8; ++page) {
    nodes.word(page % 2, page).store(page + 7);
    EXPECT_EQ(nodes.word(1 - page % 2, page).load(), page + 7);
    nodes.word(1 - page % 2, page).store(page + 100);
    EXPECT_EQ(nodes.word(page % 2, page).load(), page + 100);
  }
}

TEST_P(NodeOnBothKernels, UntouchedMemoryIsZeroAtEveryNode) {
  Cluster nodes({2, 2, 2}, way());
  for (size_t node = 0; node < 3; ++node) {
    for (uint64_t page = 0; page < 6; ++page) EXPECT_EQ(nodes.word(node, page, 511).load(), 0u);
  }
}

TEST_P(NodeOnBothKernels, IncrementsByAllNodesAreAllCounted) {
  constexpr uint64_t kEach = kSanitized ? 2'000 : 20'000;
  Cluster nodes({1, 1, 1}, way());
  nodes.at_all([&](size_t node) {
    for (uint64_t i = 0; i < kEach; ++i) nodes.word(node, 1).fetch_add(1);
  });
  for (size_t node = 0; node < 3; ++node) EXPECT_EQ(nodes.word(node, 1).load(), 3 * kEach);
}

TEST_P(NodeOnBothKernels, WordsOfOnePageThatDifferentNodesWriteDoNotDisturbEachOther) {
  constexpr uint64_t kEach = kSanitized ? 300 : 3'000;
  Cluster nodes({1, 1, 1}, way());
  nodes.at_all([&](size_t node) {
    for (uint64_t i = 1; i <= kEach; ++i) {
      nodes.word(node, 0, node).store(i);
      ASSERT_EQ(nodes.word(node, 0, node).load(), i);
    }
  });
  for (size_t node = 0; node < 3; ++node) EXPECT_EQ(nodes.word(0, 0, node).load(), kEach);
}

TEST_P(NodeOnBothKernels, APageReadByAllIsWrittenAndReadAnew) {
  Cluster nodes({1, 1, 1}, way());
  for (uint64_t round = 1; round <= 30; ++round) {
    nodes.word(round % 3, 0).store(round);
    for (size_t node = 0; node < 3; ++node) ASSERT_EQ(nodes.word(node, 0).load(), round);
  }
}

// What a VMM's balloon does to give memory back. It is refused: were it done at one node, the others would go on with
// what they have, and the core would not know.
TEST_P(NodeOnBothKernels, ADiscardThatPassesTheCoreByIsRefusedAndChangesNothing) {
  Cluster nodes({2, 2}, way());
  for (uint64_t page = 0; page < 4; ++page) nodes.word(page % 2, page).store(page + 7);
  EXPECT_EQ(nodes.word(1, 0).load(), 7u);  // one page is shared, the others have one owner
  for (size_t node = 0; node < 2; ++node) {
    for (int advice : {MADV_DONTNEED, MADV_REMOVE, MADV_FREE}) {
      EXPECT_NE(madvise(nodes[node].memory(), nodes[node].bytes(), advice), 0) << advice;
    }
  }
  for (size_t node = 0; node < 2; ++node) {
    for (uint64_t page = 0; page < 4; ++page) EXPECT_EQ(nodes.word(node, page).load(), page + 7);
  }
}

// A VMM that insists unmaps pages of its own, no more: they come back as they were.
TEST_P(NodeOnBothKernels, PagesThatAVmmUnmapsComeBackAsTheyWere) {
  Cluster nodes({2, 2}, way());
  for (uint64_t round = 1; round <= 3; ++round) {
    for (uint64_t page = 0; page < 4; ++page) nodes.word(page % 2, page).store(10 * round + page);
    EXPECT_EQ(nodes.word(1, 0).load(), 10 * round);
    for (size_t node = 0; node < 2; ++node) {
      ASSERT_EQ(madvise(nodes[node].memory(), nodes[node].bytes(), MADV_DONTNEED_LOCKED), 0);
    }
    for (size_t node = 0; node < 2; ++node) {
      for (uint64_t page = 0; page < 4; ++page) EXPECT_EQ(nodes.word(node, page).load(), 10 * round + page);
    }
  }
}

// As for devices: the kernel reads and writes guest memory for a VMM, and faults there like any thread.
TEST_P(NodeOnBothKernels, TheKernelReadsAndWritesWhatIsAtAnotherNode) {
  Cluster nodes({2, 2}, way());
  nodes.word(0, 1, 7).store(77);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const OwnedFd from(ends[0]), to(ends[1]);
  ASSERT_EQ(write(to.get(), nodes[1].memory() + kPageBytes, kPageBytes), ssize_t{kPageBytes});
  ASSERT_EQ(read(from.get(), nodes[1].memory() + 2 * kPageBytes, kPageBytes), ssize_t{kPageBytes});
  EXPECT_EQ(nodes.word(0, 2, 7).load(), 77u);
}

TEST_P(NodeOnBothKernels, WhatIsZeroedAtOneNodeIsZeroAtAll) {
  Cluster nodes({2, 2}, way());
  for (uint64_t page = 0; page < 4; ++page) nodes.word(page % 2, page).store(7);
  EXPECT_EQ(nodes.word(1, 0).load(), 7u);
  std::memset(nodes[1].memory(), 0, nodes[1].bytes());
  for (size_t node = 0; node < 2; ++node) {
    for (uint64_t page = 0; page < 4; ++page) EXPECT_EQ(nodes.word(node, page).load(), 0u);
  }
}

TEST(Node, FirstTouchOfItsOwnRangeIsNobodyElsesBusiness) {
  Cluster nodes({64, 64});
  for (uint64_t page = 0; page < 64; ++page) nodes.word(0, page).store(page);
  EXPECT_EQ(nodes[0].stats().messages_sent, 0u);
  EXPECT_EQ(nodes[0].stats().zero_pages, 64u);
}

TEST(Node, AnUpgradeCarriesNoPage) {
  Cluster nodes({1, 1});
  nodes.word(0, 0).store(1);
  EXPECT_EQ(nodes.word(1, 0).load(), 1u);
  const uint64_t pages = nodes[0].stats().pages_sent + nodes[1].stats().pages_sent;
  nodes.word(1, 0).store(2);
  EXPECT_EQ(nodes[0].stats().pages_sent + nodes[1].stats().pages_sent, pages);
  EXPECT_EQ(nodes[1].stats().upgrades, 1u);
}

TEST(Node, MemoryOfPagesThatLeftIsGivenBack) {
  Cluster nodes({1200, 1});
  for (uint64_t page = 0; page < 1200; ++page) nodes.word(0, page).store(1);
  for (uint64_t page = 0; page < 1200; ++page) nodes.word(1, page).store(2);
  EXPECT_LE(nodes[0].coherent_memory().bytes_in_use(), 1025 * kPageBytes);
}

TEST(Node, TheOthersStopWhenOneEnds) {
  Cluster nodes({1, 1, 1});
  nodes.end(1);
  for (size_t node : {0, 2}) {
    while (!nodes[node].reason()) std::this_thread::yield();
    EXPECT_EQ(nodes[node].reason()->kind, StopReason::Kind::kEnded);
  }
}

}  // namespace
}  // namespace hecaton::node
