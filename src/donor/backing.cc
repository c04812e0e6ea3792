#include "donor/backing.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "os/thread.h"

namespace hecaton::donor {
namespace {

constexpr mode_t kOnlyMine = 0600;

bool is_memory(long type) {
  switch (static_cast<unsigned long>(type)) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case HUGETLBFS_MAGIC:
      return true;
    default:
      return false;
  }
}

std::string explain_open_failure(const std::string& directory, int error) {
  switch (error) {
    case ENOENT:
      return fmt::format("there is no directory {0}; make it: mkdir -p -m 700 {0}", directory);
    case ENOTDIR:
      return fmt::format("{} is not a directory; name one on a disk", directory);
    default:
      return fmt::format("{} cannot be used: {}; choose a directory that this user may write to", directory,
                         strerror(error));
  }
}

}  // namespace

Result<std::unique_ptr<Backing>> Backing::open(const std::string& directory, Limits limits, std::string* problem) {
  OwnedFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    *problem = explain_open_failure(directory, errno);
    return system_error("opening the directory");
  }
  struct statfs system {};
  if (fstatfs(fd.get(), &system) == 0 && is_memory(system.f_type)) {
    *problem = fmt::format(
        "{} is not on a disk, that is RAM (a tmpfs): choose a directory on a disk, or leave --backing "
        "out to lend RAM",
        directory);
    return Error{ErrorCode::kInvalidArgument, 0, "the directory is in RAM"};
  }
  std::unique_ptr<Backing> backing(new Backing(directory, std::move(fd), limits));
  HEC_TRY(backing->probe(problem));
  auto thread = start_thread("donor-disk", [self = backing.get()] { self->run(); });
  if (!thread.ok()) {
    *problem = thread.error().describe();
    return thread.error();
  }
  backing->thread_ = std::move(thread).value();
  return backing;
}

Backing::~Backing() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

// What regions will need, tried on one page.
Result<void> Backing::probe(std::string* problem) const {
  auto attempt = [&]() -> Result<void> {
    auto file = HEC_TRY(make_file(kExtentBytes));
    std::vector<std::byte> page(kPageBytes);
    iovec piece{page.data(), page.size()};
    HEC_TRY(file->reserve({PageNumber(0), 1}));
    HEC_TRY(file->write(PageNumber(0), std::span(&piece, 1)));
    return file->punch({PageNumber(0), 1});
  };
  Result<void> works = attempt();
  if (works.ok()) return works;
  const int error = works.error().os_error;
  *problem = error == EOPNOTSUPP
                 ? fmt::format("the file system of {} cannot do what is needed ({}); ext4, xfs and btrfs can",
                               directory_, works.error().describe())
                 : explain_open_failure(directory_, error);
  return works;
}

Result<OwnedFd> Backing::nameless_file() const {
  // O_EXCL: it cannot be given a name later either.
  OwnedFd fd(openat(fd_.get(), ".", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, kOnlyMine));
  if (fd.valid()) return fd;
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT) return system_error("making a file");
  // A file system without files that never had a name.
  std::string path = fmt::format("/proc/self/fd/{}/hecatond-XXXXXX", fd_.get());
  fd.reset(mkostemp(path.data(), O_CLOEXEC));
  if (!fd.valid()) return system_error("making a file");
  unlink(path.c_str());
  return fd;
}

Result<std::shared_ptr<PageFile>> Backing::make_file(uint64_t bytes) const {
  return PageFile::create(HEC_TRY(nameless_file()), bytes, cached_pages_);
}

uint64_t Backing::free_bytes() const {
  struct statvfs system {};
  if (fstatvfs(fd_.get(), &system) != 0) return 0;
  return static_cast<uint64_t>(system.f_bavail) * system.f_frsize;
}

void Backing::touched(const std::shared_ptr<PageFile>& file, PageRun run) {
  for (PageNumber page = run.first; page < run.end();) {
    const ExtentNumber extent = extent_of(page);
    const PageNumber end = std::min(run.end(), PageNumber((extent.value + 1) * kPagesPerExtent));
    if (file->add_cached(extent, end - page)) {
      std::lock_guard lock(mutex_);
      touched_.push_back({file, extent});
    }
    page = end;
  }
  if (cached_bytes() <= limits_.kept_bytes) return;
  { std::lock_guard lock(mutex_); }  // it is not just about to sleep
  changed_.notify_all();
}

void Backing::wait_for_disk() {
  if (cached_bytes() <= limits_.most_bytes) return;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stop_ || touched_.empty() || cached_bytes() <= limits_.most_bytes; });
}

void Backing::run() {
  std::vector<std::pair<std::shared_ptr<PageFile>, ExtentNumber>> batch;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stop_ || (cached_bytes() > limits_.kept_bytes && !touched_.empty()); });
    if (stop_) return;
    const size_t count = std::min(kBatch, touched_.size());
    for (size_t i = 0; i < count; ++i, touched_.pop_front()) {
      // A region that ended took its pages along.
      if (auto file = touched_.front().file.lock()) batch.emplace_back(std::move(file), touched_.front().extent);
    }
    lock.unlock();
    // Forgotten first: what is touched from here on is queued again.
    for (auto& [file, extent] : batch) file->reset_cached(extent);
    for (auto& [file, extent] : batch) file->start_to_push_out(extent);
    for (auto& [file, extent] : batch) file->push_out(extent);
    batch.clear();
    lock.lock();
    changed_.notify_all();
  }
}

}  // namespace hecaton::donor
