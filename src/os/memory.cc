#include "os/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace hecaton {

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    if (address_ != nullptr) munmap(address_, bytes_);
    address_ = std::exchange(other.address_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

Mapping::~Mapping() {
  if (address_ != nullptr) munmap(address_, bytes_);
}

Result<Mapping> Mapping::shared(int fd, size_t bytes) {
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return system_error("mapping a memory file");
  madvise(address, bytes, MADV_DONTDUMP);
  madvise(address, bytes, MADV_NOHUGEPAGE);
  return Mapping(static_cast<std::byte*>(address), bytes);
}

Result<Mapping> Mapping::sparse(size_t bytes) {
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return system_error("reserving address space");
  // A program that locks all of its memory got it filled and locked, and could not give it back.
  munlock(address, bytes);
  madvise(address, bytes, MADV_DONTNEED);
  madvise(address, bytes, MADV_DONTDUMP);
  madvise(address, bytes, MADV_NOHUGEPAGE);
  return Mapping(static_cast<std::byte*>(address), bytes);
}

Result<OwnedFd> create_memfd(const char* debug_name, size_t bytes) {
  OwnedFd fd(memfd_create(debug_name, MFD_CLOEXEC));
  if (!fd.valid()) return system_error("memfd_create");
  if (ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return system_error("sizing a memfd");
  return fd;
}

Result<void> punch_hole(int memfd, uint64_t offset, uint64_t bytes) {
  int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  while (fallocate(memfd, mode, static_cast<off_t>(offset), static_cast<off_t>(bytes)) != 0) {
    if (errno != EINTR) return system_error("punching a hole");
  }
  return {};
}

Result<bool> is_hole(int memfd, uint64_t offset) {
  off_t data = lseek(memfd, static_cast<off_t>(offset), SEEK_DATA);
  if (data < 0) {
    if (errno == ENXIO) return true;
    return system_error("looking for data in a memfd");
  }
  return data != static_cast<off_t>(offset);
}

uint64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  for (uint64_t kib = 0; file >> name >> kib; file.ignore(256, '\n')) {
    if (name == "MemAvailable:") return kib << 10;
  }
  return 0;
}

Result<std::optional<DataRange>> next_data(int memfd, uint64_t offset) {
  const off_t first = lseek(memfd, static_cast<off_t>(offset), SEEK_DATA);
  if (first < 0 && errno == ENXIO) return std::optional<DataRange>();
  if (first < 0) return system_error("looking for data in a memfd");
  const off_t end = lseek(memfd, first, SEEK_HOLE);
  if (end < 0) return system_error("looking for a hole in a memfd");
  return std::optional(DataRange{static_cast<uint64_t>(first), static_cast<uint64_t>(end)});
}

Result<void> lock_as_filled(const Mapping& mapping) {
  if (mlock2(mapping.data(), mapping.size(), MLOCK_ONFAULT) == 0) return {};
  return system_error("locking memory: `ulimit -l` must be unlimited, or this run as root",
                      errno == EPERM || errno == ENOMEM ? ErrorCode::kPermission : ErrorCode::kSystem);
}

Result<void> unmap_locked(std::byte* address, size_t bytes) {
  if (madvise(address, bytes, MADV_DONTNEED_LOCKED) != 0) return system_error("unmapping locked memory");
  return {};
}

Result<void> lock_process_memory() {
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif
  // With a finite limit, MCL_FUTURE would make the mapping of the guest's RAM fail.
  rlimit limit{};
  if (geteuid() != 0 && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    return Error{ErrorCode::kPermission, 0, "the limit of locked memory is finite"};
  }
  if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) return system_error("mlockall");
  return {};
}

}  // namespace hecaton
