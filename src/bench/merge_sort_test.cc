#include "bench/merge_sort.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace hecaton::bench {
namespace {

std::vector<uint64_t> random_keys(size_t count, uint64_t most) {
  std::mt19937_64 random(5);
  std::vector<uint64_t> keys(count);
  for (uint64_t& key : keys) key = random() % most;
  return keys;
}

TEST(MergeSort, SortsAnyNumberOfKeys) {
  for (size_t count : {0, 1, 2, 65536, 65537, 3 * 65536, 5 * 65536 + 17}) {
    std::vector<uint64_t> keys = random_keys(count, UINT64_MAX), expected = keys, spare(count);
    std::sort(expected.begin(), expected.end());
    const std::span<uint64_t> sorted = merge_sort(keys, spare);
    EXPECT_TRUE(std::equal(sorted.begin(), sorted.end(), expected.begin(), expected.end())) << count;
  }
}

TEST(MergeSort, KeepsKeysThatOccurOften) {
  std::vector<uint64_t> keys = random_keys(200'000, 7), spare(keys.size());
  const uint64_t before = multiset_checksum(keys);
  EXPECT_EQ(multiset_checksum(merge_sort(keys, spare)), before);
}

TEST(MultisetChecksum, DependsOnTheKeysAndNotOnTheirOrder) {
  EXPECT_EQ(multiset_checksum(std::vector<uint64_t>{1, 2, 3}), multiset_checksum(std::vector<uint64_t>{3, 1, 2}));
  EXPECT_NE(multiset_checksum(std::vector<uint64_t>{1, 2, 3}), multiset_checksum(std::vector<uint64_t>{1, 1, 4}));
  EXPECT_NE(multiset_checksum(std::vector<uint64_t>{1, 2, 2}), multiset_checksum(std::vector<uint64_t>{1, 1, 2}));
  EXPECT_NE(multiset_checksum(std::vector<uint64_t>{1, 1, 3}), multiset_checksum(std::vector<uint64_t>{2, 2, 3}));
  EXPECT_NE(multiset_checksum(std::vector<uint64_t>{0, 0}), multiset_checksum(std::vector<uint64_t>{0}));
}

}  // namespace
}  // namespace hecaton::bench
