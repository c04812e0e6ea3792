#include "bench/value_store.h"

#include <gtest/gtest.h>

#include <set>

namespace hecaton::bench {
namespace {

class ValueStoreTest : public testing::Test {
 protected:
  static constexpr uint64_t kBytes = 64 * kPageBytes;
  std::vector<std::byte> memory_ = std::vector<std::byte>(kBytes);
  ValueStore store_{memory_.data(), kBytes};

  void read_all() {
    for (uint64_t key = 0; key < store_.keys(); ++key) store_.read(key);
  }
};

TEST_F(ValueStoreTest, FindsWhatItWrote) {
  store_.write(3);
  store_.write(3);
  read_all();
  EXPECT_EQ(store_.keys(), kBytes / ValueStore::kValueBytes);
  EXPECT_EQ(store_.wrong(), 0u);
}

TEST_F(ValueStoreTest, NoticesEveryFlippedByte) {
  for (uint64_t at : {uint64_t{0}, uint64_t{8}, uint64_t{17}, uint64_t{500}, uint64_t{1023}, kBytes - 1}) {
    const uint64_t before = store_.wrong();
    memory_[at] ^= std::byte{1};
    read_all();
    EXPECT_EQ(store_.wrong(), before + 1) << at;
    memory_[at] ^= std::byte{1};
  }
}

TEST_F(ValueStoreTest, NoticesAnOldVersion) {
  const std::vector<std::byte> old = memory_;
  store_.write(5);
  memory_ = old;
  read_all();
  EXPECT_EQ(store_.wrong(), 1u);
}

TEST_F(ValueStoreTest, ScattersNeighbouringKeys) {
  std::set<uint64_t> pages;
  for (uint64_t key = 0; key < 16; ++key) pages.insert(store_.page_of(key));
  EXPECT_GE(pages.size(), 10u);  // together they would be on 4
}

}  // namespace
}  // namespace hecaton::bench
