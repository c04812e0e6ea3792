// A directory on a disk where regions keep their pages: `hecatond --backing DIR`. Its thread keeps them out of this
// machine's memory: extents that were written or read are pushed out of the page cache, the oldest first, but for the
// latest. Writers wait when the disk falls far behind.
//
// Threads: any.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/result.h"
#include "donor/page_file.h"

namespace hecaton::donor {

class Backing {
 public:
  struct Limits {
    uint64_t kept_bytes = 256_MiB;  // in the page cache
    uint64_t most_bytes = 512_MiB;  // there, before writers wait
  };
  // On error `problem` says it in words for the user.
  static Result<std::unique_ptr<Backing>> open(const std::string& directory, Limits limits, std::string* problem);
  static Result<std::unique_ptr<Backing>> open(const std::string& directory, std::string* problem) {
    return open(directory, Limits{}, problem);
  }
  ~Backing();

  // For the pages of a region; it must not outlive the backing.
  Result<std::shared_ptr<PageFile>> make_file(uint64_t bytes) const;
  // Pages came into the page cache.
  void touched(const std::shared_ptr<PageFile>& file, PageRun run);
  // Waits until the disk has caught up, if it is far behind. Never with a region's lock in hand.
  void wait_for_disk();

  const std::string& directory() const { return directory_; }
  // What its file system has free for this user.
  uint64_t free_bytes() const;

 private:
  Backing(std::string directory, OwnedFd fd, Limits limits)
      : directory_(std::move(directory)), fd_(std::move(fd)), limits_(limits) {}
  struct Touched {
    std::weak_ptr<PageFile> file;
    ExtentNumber extent;
  };
  static constexpr size_t kBatch = 16;
  uint64_t cached_bytes() const { return *cached_pages_ * kPageBytes; }
  Result<OwnedFd> nameless_file() const;
  Result<void> probe(std::string* problem) const;
  void run();

  const std::string directory_;
  const OwnedFd fd_;
  const Limits limits_;
  const PageFile::CachedPages cached_pages_ = std::make_shared<std::atomic<uint64_t>>(0);
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Touched> touched_;  // the oldest first
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace hecaton::donor
