// What the engine's thread may not do while it serves a fault: allocate, or fault itself. Not built with sanitizers,
// whose own memory would be counted.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "node/cluster_for_tests.h"

namespace {

std::atomic<bool> counts{false};
std::atomic<uint64_t> allocations{0};

void note_allocation() {
  if (counts.load()) allocations.fetch_add(1);
}

}  // namespace

// In the place of the C library's, which do the work: so that nothing that anybody allocates is missed.
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* old, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);

void* malloc(size_t bytes) {
  note_allocation();
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  note_allocation();
  return __libc_calloc(count, bytes);
}
void* realloc(void* old, size_t bytes) {
  note_allocation();
  return __libc_realloc(old, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  note_allocation();
  return __libc_memalign(alignment, bytes);
}
}

namespace hecaton::node {
namespace {

// Runs `what`, which allocates nothing itself, and tells how often anybody in this process did meanwhile.
template <typename What>
uint64_t allocations_during(What what) {
  allocations.store(0);
  counts.store(true);
  what();
  counts.store(false);
  return allocations.load();
}

// Page faults, all of them, that the threads named `name` of this process have taken.
uint64_t faults_of_threads(const std::string& name) {
  uint64_t faults = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream stat(task.path() / "stat");
    std::string line;
    std::getline(stat, line);
    if (line.find('(' + name + ')') == std::string::npos) continue;
    unsigned long minor = 0, major = 0;
    // Behind the name: state, four numbers, terminal's group, flags, minor, minor of children, major.
    std::sscanf(line.c_str() + line.rfind(')') + 2, "%*c %*d %*d %*d %*d %*d %*u %lu %*u %lu", &minor, &major);
    faults += minor + major;
  }
  return faults;
}

class FaultPath : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam() && !CoherentMemory::maps_protected().value()) GTEST_SKIP() << "this kernel is before 6.4";
  }
  static void adapt(NodeConfig& config) { config.protected_map = GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Ways, FaultPath, testing::Bool(),
                         [](const auto& way) { return way.param ? "Continue" : "Copy"; });

TEST(AllocationCount, MissesNone) {
  EXPECT_EQ(allocations_during([] { delete new std::atomic<int>(7); }), 1u);
}

TEST_P(FaultPath, AllocatesNothing) {
  Cluster nodes({4, 4, 4}, adapt);
  EXPECT_EQ(allocations_during([&] {
              for (uint64_t i = 0; i < 600; ++i) {
                nodes.word(i % 3, i % 12).fetch_add(1);        // first touches, moves
                (void)nodes.word((i + 1) % 3, i % 12).load();  // copies
                nodes.word((i + 1) % 3, i % 12).store(i);      // upgrades
              }
            }),
            0u);
}

// The older way punches pages, and touches them anew.
TEST(FaultPathOfNewerKernels, TakesNoFaultOfItsOwnOnceItsPagesAreThere) {
  if (!CoherentMemory::maps_protected().value()) GTEST_SKIP() << "this kernel is before 6.4";
  Cluster nodes({4, 4});
  auto faults_while_all_move = [&] {
    const uint64_t before = faults_of_threads("hec-node");
    for (uint64_t i = 0; i < 400; ++i) nodes.word(i % 2, i / 2 % 8).fetch_add(1);
    return faults_of_threads("hec-node") - before;
  };
  // Code is touched for the first time now and then: what it does when nothing comes for long, say.
  uint64_t faults = 1;
  for (int round = 0; round < 20 && faults > 0; ++round) faults = faults_while_all_move();
  EXPECT_EQ(faults, 0u);
}

TEST(NodeMemory, IsLockedLikeTheRestOfTheProcess) {
  Cluster nodes({4, 4});
  std::ifstream maps("/proc/self/smaps");
  size_t of_guests = 0;
  std::string mapping, others;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) mapping = line;
    if (line.rfind("VmFlags:", 0) != 0 || mapping.find("[v") != std::string::npos) continue;  // vdso, vvar
    const bool locked = line.find(" lo") != std::string::npos;
    if (mapping.find("hecaton-node") != std::string::npos) {
      ++of_guests;
      EXPECT_TRUE(locked) << mapping;
    } else if (!locked) {
      others += mapping + "\n";
    }
  }
  EXPECT_GE(of_guests, 2u);
  EXPECT_EQ(others, "");
}

TEST(NodeMemory, BeginsUnmappedInAProgramThatLocksAndFillsAllThatItMaps) {
  ASSERT_EQ(mlockall(MCL_FUTURE), 0);
  auto memory = CoherentMemory::create(8, false);
  munlockall();
  ASSERT_TRUE(memory.ok()) << memory.error().describe();
  EXPECT_EQ(memory->bytes_in_use(), 0u);
}

}  // namespace
}  // namespace hecaton::node
