#include "donor/page_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

namespace hecaton::donor {
namespace {

off_t offset_of(PageNumber page) {
  return static_cast<off_t>(page.value * kPageBytes);
}

// A quota, a limit of file size and a full disk are one thing to a host: no room.
Error disk_error(const char* context) {
  const bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
  return system_error(context, full ? ErrorCode::kFull : ErrorCode::kSystem);
}

Result<void> allocate(int fd, int mode, PageRun run, const char* context) {
  while (fallocate(fd, mode, offset_of(run.first), static_cast<off_t>(run.count * kPageBytes)) != 0) {
    if (errno != EINTR) return disk_error(context);
  }
  return {};
}

// Without the first `bytes`; the span begins with the first piece that has any left.
std::span<iovec> without(std::span<iovec> pieces, size_t bytes) {
  while (!pieces.empty() && bytes >= pieces.front().iov_len) {
    bytes -= pieces.front().iov_len;
    pieces = pieces.subspan(1);
  }
  if (!pieces.empty()) {
    pieces.front().iov_base = static_cast<std::byte*>(pieces.front().iov_base) + bytes;
    pieces.front().iov_len -= bytes;
  }
  return pieces;
}

}  // namespace

Result<std::shared_ptr<PageFile>> PageFile::create(OwnedFd file, uint64_t bytes, CachedPages cached) {
  if (ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) return disk_error("sizing a file");
  // Reading ahead is the host's affair: it knows what its guest reads.
  posix_fadvise(file.get(), 0, 0, POSIX_FADV_RANDOM);
  Mapping counts = HEC_TRY(Mapping::sparse(pages_in(extents_in(pages_in(bytes)) * sizeof(uint16_t)) * kPageBytes));
  return std::shared_ptr<PageFile>(new PageFile(std::move(file), std::move(counts), std::move(cached)));
}

Result<void> PageFile::reserve(PageRun run) {
  return allocate(file_.get(), FALLOC_FL_KEEP_SIZE, run, "reserving disk space");
}

Result<void> PageFile::punch(PageRun run) {
  return allocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, run, "giving disk space back");
}

Result<void> PageFile::write(PageNumber first, std::span<iovec> pieces) {
  for (off_t at = offset_of(first); !pieces.empty();) {
    const int count = static_cast<int>(std::min<size_t>(pieces.size(), IOV_MAX));
    const ssize_t written = pwritev(file_.get(), pieces.data(), count, at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return disk_error("writing to the disk");
    at += written;
    pieces = without(pieces, static_cast<size_t>(written));
  }
  return {};
}

Result<void> PageFile::read(PageRun run, std::byte* into) {
  off_t at = offset_of(run.first);
  for (size_t left = run.count * kPageBytes; left > 0;) {
    const ssize_t got = pread(file_.get(), into, left, at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("reading from the disk");
    if (got == 0) return Error{ErrorCode::kCorrupt, 0, "the file is shorter than it was"};
    at += got;
    into += got;
    left -= static_cast<size_t>(got);
  }
  return {};
}

void PageFile::start_to_push_out(ExtentNumber extent) {
  const off_t at = static_cast<off_t>(extent.value * kExtentBytes);
  sync_file_range(file_.get(), at, kExtentBytes, SYNC_FILE_RANGE_WRITE);
}

void PageFile::push_out(ExtentNumber extent) {
  const off_t at = static_cast<off_t>(extent.value * kExtentBytes);
  sync_file_range(file_.get(), at, kExtentBytes,
                  SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  posix_fadvise(file_.get(), at, kExtentBytes, POSIX_FADV_DONTNEED);
}

bool PageFile::add_cached(ExtentNumber extent, uint64_t pages) {
  auto count = cached_of(extent);
  uint16_t before = count;
  uint16_t after;
  do {
    after = static_cast<uint16_t>(std::min<uint64_t>(before + pages, kPagesPerExtent));
    if (after == before) return false;
  } while (!count.compare_exchange_weak(before, after));
  own_cached_ += after - before;
  *cached_ += after - before;
  return before == 0;
}

void PageFile::reset_cached(ExtentNumber extent) {
  const uint16_t before = cached_of(extent).exchange(0);
  own_cached_ -= before;
  *cached_ -= before;
}

}  // namespace hecaton::donor
