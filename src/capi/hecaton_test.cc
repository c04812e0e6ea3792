// The C interface, with an embedded donor.
#include "hecaton/hecaton.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <string>

namespace {

constexpr uint64_t kBytes = 16u << 20;
constexpr uint64_t kLocalBytes = 4u << 20;
constexpr size_t kPage = 4096;

hecaton_config config_of(unsigned shards) {
  hecaton_config config{};
  config.struct_size = sizeof config;
  config.bytes = kBytes;
  config.local_bytes = kLocalBytes;
  config.shards = shards;
  return config;
}

class CInterface : public testing::Test {
 protected:
  void TearDown() override { hecaton_close(region_); }

  void open(const hecaton_config& config) {
    void* address = nullptr;
    const int error = hecaton_open(&config, &region_, &address);
    if (error == HECATON_EKERNEL || error == HECATON_EPERM) GTEST_SKIP() << hecaton_strerror(error);
    ASSERT_EQ(HECATON_OK, error) << hecaton_strerror(error);
    memory_ = static_cast<unsigned char*>(address);
  }
  void fill() {
    for (size_t page = 0; page < kBytes / kPage; ++page) memset(memory_ + page * kPage, mark_of(page), kPage);
  }
  static unsigned char mark_of(size_t page) { return static_cast<unsigned char>(1 + page % 251); }
  std::string stats() {
    std::string text(1 << 14, '\0');
    text.resize(static_cast<size_t>(hecaton_stats_json(region_, text.data(), text.size())));
    return text;
  }

  hecaton_region* region_ = nullptr;
  unsigned char* memory_ = nullptr;
};

TEST_F(CInterface, KeepsWhatWasWrittenWithSeveralShards) {
  open(config_of(4));
  if (!memory_) return;
  fill();
  for (size_t page = 0; page < kBytes / kPage; ++page) {
    ASSERT_EQ(mark_of(page), memory_[page * kPage + 77]) << page;
  }
  EXPECT_NE(std::string::npos, stats().find("\"shards\":4")) << stats();
}

// The kernel tells each shard of its own part, and waits for each of them.
TEST_F(CInterface, DiscardsARangeOverTheStripesOfSeveralShards) {
  open(config_of(4));
  if (!memory_) return;
  fill();
  const size_t first = 300, end = 3700;  // pages; a stripe has 512
  ASSERT_EQ(0, madvise(memory_ + first * kPage, (end - first) * kPage, MADV_DONTNEED));
  for (size_t page = 0; page < kBytes / kPage; ++page) {
    const bool discarded = page >= first && page < end;
    ASSERT_EQ(discarded ? 0 : mark_of(page), memory_[page * kPage + 77]) << page;
  }
}

TEST_F(CInterface, KeepsWhatWasWrittenSealed) {
  hecaton_config config = config_of(2);
  config.flags = HECATON_SEAL;
  open(config);
  if (!memory_) return;
  fill();
  for (size_t page = 0; page < kBytes / kPage; ++page) {
    ASSERT_EQ(mark_of(page), memory_[page * kPage + 77]) << page;
  }
  EXPECT_NE(std::string::npos, stats().find("\"sealed\":true")) << stats();
}

TEST_F(CInterface, TakesTheStructOfProgramsFromBeforeShards) {
  hecaton_config config = config_of(77);  // what lies behind such a struct is not looked at
  config.struct_size = offsetof(hecaton_config, shards);
  open(config);
  if (!memory_) return;
  memory_[0] = 1;
  EXPECT_EQ(1, memory_[0]);
}

TEST_F(CInterface, TakesTheStructOfProgramsFromBeforeFlags) {
  hecaton_config config = config_of(2);
  config.flags = 0xffff;  // behind such a struct
  config.struct_size = offsetof(hecaton_config, flags);
  open(config);
  if (!memory_) return;
  memory_[0] = 1;
  EXPECT_NE(std::string::npos, stats().find("\"sealed\":false")) << stats();
}

TEST_F(CInterface, SaysWhatIsWrongWithAConfiguration) {
  void* address = nullptr;
  hecaton_config config = config_of(17);
  EXPECT_EQ(HECATON_EINVAL, hecaton_open(&config, &region_, &address));
  EXPECT_STREQ("shards is more than 16", hecaton_strerror(HECATON_EINVAL));
  config = config_of(1);
  config.flags = HECATON_SEAL | 2;
  EXPECT_EQ(HECATON_EINVAL, hecaton_open(&config, &region_, &address));
  EXPECT_STREQ("flags has a bit that is not known", hecaton_strerror(HECATON_EINVAL));
  config.struct_size = 8;
  EXPECT_EQ(HECATON_EINVAL, hecaton_open(&config, &region_, &address));
  EXPECT_NE(nullptr, strstr(hecaton_strerror(HECATON_EINVAL), "struct_size"));
}

}  // namespace
