// Stands in for QEMU under `hecaton run --qemu`, for tests that kill parts of a run: maps the RAM that it is given, as
// QEMU does, and lets threads write to it and verify it, at the speed of the machine, until it gets SIGTERM. Then it
// verifies every page once more.
//
// Threads own different cache lines of every page, so that each eviction of a page races with writers. Long accesses
// are noted: they show how long a guest waits when its pager is killed.
//
// Output: one JSON object, {"operations", "wrong", "waits": [[monotonic seconds at its end, milliseconds], ...]}.
// Exit status 0: every byte was right.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr size_t kPage = 4096, kLine = 64;
constexpr unsigned kThreads = 3;
constexpr double kLongMs = 5;

double now_s() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

struct Shared {
  std::byte* memory = nullptr;
  size_t pages = 0;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> operations{0}, wrong{0};
  std::mutex mutex;
  std::string waits;  // JSON, under the mutex
};

// What thread `id` wrote to its line of `page` at its `count`-th write.
uint64_t pattern(uint64_t page, uint64_t id, uint64_t count, uint64_t word) {
  if (count == 0) return 0;
  const uint64_t x = (page << 32 ^ id << 56 ^ count << 8 ^ word) * 0x9e3779b97f4a7c15ull;
  return x ^ x >> 29;
}

class Worker {
 public:
  Worker(Shared& shared, unsigned id)
      : shared_(shared), id_(id), random_(std::random_device()()), counts_(shared.pages) {}

  void run() {
    while (!shared_.stop.load()) {
      if (random_() % 16 == 0) {
        scan();
      } else {
        timed_touch(random_() % shared_.pages, random_() % 3 != 0);
      }
    }
    for (size_t page = 0; page < shared_.pages; ++page) touch(page, false);
  }

 private:
  void scan() {
    const size_t first = random_() % shared_.pages;
    for (size_t i = 0; i < 200 && first + i < shared_.pages && !shared_.stop.load(); ++i) timed_touch(first + i, false);
  }

  void timed_touch(size_t page, bool write) {
    const double before = now_s();
    touch(page, write);
    const double after = now_s(), ms = (after - before) * 1000;
    if (ms < kLongMs) return;
    char text[64];
    snprintf(text, sizeof text, "[%.4f, %.1f]", after, ms);
    std::lock_guard lock(shared_.mutex);
    shared_.waits += (shared_.waits.empty() ? "" : ", ") + std::string(text);
  }

  void touch(size_t page, bool write) {
    auto* line = reinterpret_cast<volatile uint64_t*>(shared_.memory + page * kPage + id_ * kLine);
    for (uint64_t word = 0; word < 8; ++word) {
      const uint64_t seen = line[word], wanted = pattern(page, id_, counts_[page], word);
      if (seen == wanted) continue;
      fprintf(stderr, "WRONG page %zu thread %u word %d: read %llx, wrote %llx (write %u)\n", page, id_,
              static_cast<int>(word), static_cast<unsigned long long>(seen), static_cast<unsigned long long>(wanted),
              counts_[page]);
      shared_.wrong.fetch_add(1);
      break;
    }
    if (write) {
      ++counts_[page];
      for (uint64_t word = 0; word < 8; ++word) line[word] = pattern(page, id_, counts_[page], word);
    }
    shared_.operations.fetch_add(1, std::memory_order_relaxed);
  }

  Shared& shared_;
  const unsigned id_;
  std::mt19937_64 random_;
  std::vector<uint32_t> counts_;
};

// The value of `name` in the command line: size=, mem-path= of the memory backend.
std::string value_of(int argc, char** argv, const char* name) {
  for (int i = 1; i < argc; ++i) {
    const char* at = strstr(argv[i], "memory-backend-file") ? strstr(argv[i], name) : nullptr;
    if (at) return std::string(at + strlen(name), strcspn(at + strlen(name), ","));
  }
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "-accel") == 0) {
    printf("Accelerators supported in QEMU binary:\ntcg\n");
    return 0;
  }
  const std::string path = value_of(argc, argv, "mem-path="), size = value_of(argc, argv, "size=");
  const size_t bytes = strtoull(size.c_str(), nullptr, 10);
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0 || bytes == 0) {
    fprintf(stderr, "guest_stand_in: started by hecaton run --qemu, not by hand\n");
    return 2;
  }
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigprocmask(SIG_BLOCK, &ending, nullptr);
  Shared shared;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    perror("guest_stand_in: mmap");
    return 3;
  }
  shared.memory = static_cast<std::byte*>(memory);
  shared.pages = bytes / kPage;
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < kThreads; ++id) threads.emplace_back([&shared, id] { Worker(shared, id).run(); });
  int number = 0;
  sigwait(&ending, &number);
  shared.stop.store(true);
  for (std::thread& thread : threads) thread.join();
  printf("{\"operations\": %llu, \"wrong\": %llu, \"waits\": [%s]}\n",
         static_cast<unsigned long long>(shared.operations.load()),
         static_cast<unsigned long long>(shared.wrong.load()), shared.waits.c_str());
  return shared.wrong.load() == 0 ? 0 : 1;
}
