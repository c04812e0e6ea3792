#include "pager/state_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/page_seal.h"

namespace hecaton {
namespace {

TEST(StateMemory, IsFreshAndOfTheRightSize) {
  OwnedFd fd = StateMemory::create_file(10_MiB, false).value();
  StateMemory state = StateMemory::open(fd.get()).value();
  EXPECT_EQ(state.region_bytes(), 10_MiB);
  EXPECT_EQ(state.page_words().size(), pages_in(10_MiB));
  EXPECT_EQ(state.placement_words().size(), 10u);
  EXPECT_TRUE(state.seal().empty());
  EXPECT_FALSE(state.layout());
  EXPECT_EQ(state.members()[0].state.load(), uint32_t{MemberRecord::kNone});
  EXPECT_EQ(state.counters().faults.value(), 0u);
  EXPECT_NE(state.identity().instance, 0u);
}

TEST(StateMemory, WhatOneWroteTheNextFinds) {
  OwnedFd fd = StateMemory::create_file(4_MiB, true).value();
  PoolIdentity first;
  std::array<std::byte, 32> key{};
  {
    StateMemory state = StateMemory::open(fd.get()).value();
    EXPECT_EQ(state.begin_epoch(), 1u);
    first = state.identity();
    state.page_words()[5].store(7);
    state.placement_words()[3].store(2);
    state.counters().faults.add(9);
    key = SealState::at(state.seal().data(), pages_in(4_MiB)).head->key;
    state.set_configuration("{\"a\": 1}");
    state.set_layout({RemoteAddress{4096}, 2_MiB, 1, 77, {12}});
  }
  StateMemory state = StateMemory::open(fd.get()).value();
  EXPECT_EQ(state.begin_epoch(), 2u);
  EXPECT_EQ(state.identity().instance, first.instance);
  EXPECT_EQ(state.identity().secret, first.secret);
  EXPECT_EQ(state.page_words()[5].load(), 7u);
  EXPECT_EQ(state.placement_words()[3].load(), 2u);
  EXPECT_EQ(state.counters().faults.value(), 9u);
  ASSERT_EQ(state.seal().size(), SealState::bytes_for(pages_in(4_MiB)));
  EXPECT_NE(key, (std::array<std::byte, 32>{}));
  EXPECT_EQ(SealState::at(state.seal().data(), pages_in(4_MiB)).head->key, key);
  EXPECT_EQ(state.configuration(), "{\"a\": 1}");
  ASSERT_TRUE(state.layout());
  EXPECT_EQ(state.layout()->base.value, 4096u);
  EXPECT_EQ(state.layout()->pid, 77);
  EXPECT_EQ(state.layout()->descriptors[0], 12);
}

TEST(StateMemory, AnythingElseIsRefused) {
  OwnedFd empty = create_memfd("empty", 0).value();
  EXPECT_EQ(StateMemory::open(empty.get()).error().code, ErrorCode::kCorrupt);
  OwnedFd zeros = create_memfd("zeros", 1_MiB).value();
  EXPECT_EQ(StateMemory::open(zeros.get()).error().code, ErrorCode::kCorrupt);
  OwnedFd cut = StateMemory::create_file(4_MiB, false).value();
  ASSERT_EQ(ftruncate(cut.get(), 64 * 1024), 0);
  EXPECT_EQ(StateMemory::open(cut.get()).error().code, ErrorCode::kUnsupported);
  OwnedFd other = StateMemory::create_file(4_MiB, false).value();
  const uint32_t version = 99;
  ASSERT_EQ(pwrite(other.get(), &version, sizeof version, 8), 4);
  EXPECT_EQ(StateMemory::open(other.get()).error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace hecaton
