#include "os/kvm_probe.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "base/units.h"
#include "os/memory.h"
#include "os/owned_fd.h"

namespace hecaton {
namespace {

constexpr int kApiVersion = 12;  // the only one since 2007
constexpr size_t kGuestBytes = 64 * 1024;
constexpr uint32_t kCodeAt = 0x1000;
constexpr uint32_t kDataAt = 0x8000;  // the loop stores to the page from here on

// Chunks grow until one takes so long that the microseconds to enter and leave the guest do not count. A KVM that
// interprets, at a thousandth of native speed, takes about a millisecond for the first chunk and never gets a large
// one.
constexpr uint32_t kFirstChunk = 2048;
constexpr uint32_t kLargestChunk = 1 << 26;
constexpr int64_t kLongEnoughNs = 3'000'000;
constexpr int64_t kBudgetNs = 60'000'000;
constexpr int kLongChunks = 4;  // the best of these counts: other machines' noise only ever slows

constexpr uint32_t kAddend = 0x9e3779b9;
constexpr uint8_t kGuestCode[] = {
    0x05, 0xb9, 0x79, 0x37, 0x9e,        // add eax, kAddend
    0x89, 0x87, 0x00, 0x80, 0x00, 0x00,  // mov [edi + kDataAt], eax
    0x83, 0xc7, 0x04,                    // add edi, 4
    0x81, 0xe7, 0xfc, 0x0f, 0x00, 0x00,  // and edi, 0xffc
    0x49,                                // dec ecx
    0x75, 0xe9,                          // jnz to the start
    0xf4,                                // hlt
};

static_assert(kDataAt + kPageBytes <= kGuestBytes && kCodeAt + sizeof kGuestCode <= kDataAt);

// The same in this process; returns eax.
uint32_t native_loop(uint32_t count, std::byte* data) {
  uint32_t sum = 0;
  uint64_t index = 0;
  asm volatile(
      "1: addl $0x9e3779b9, %[sum]\n"
      "movl %[sum], (%[data], %[index])\n"
      "addl $4, %k[index]\n"
      "andl $0xffc, %k[index]\n"
      "decl %[count]\n"
      "jnz 1b\n"
      : [sum] "+r"(sum), [index] "+r"(index), [count] "+r"(count)
      : [data] "r"(data)
      : "memory", "cc");
  return sum;
}

// Loops per microsecond of `run(count)`, which returns whether it ran; 0 if it did not.
template <typename Run>
double measure(Run run) {
  double best = 0;
  uint32_t chunk = kFirstChunk;
  const int64_t begin = monotonic_ns();
  for (int long_chunks = 0; long_chunks < kLongChunks;) {
    int64_t before = monotonic_ns();
    if (!run(chunk)) return 0;
    int64_t after = monotonic_ns();
    int64_t took = std::max<int64_t>(after - before, 1);
    best = std::max(best, chunk * 1000.0 / static_cast<double>(took));
    if (after - begin >= kBudgetNs) break;
    if (took >= kLongEnoughNs || chunk >= kLargestChunk) {
      ++long_chunks;
    } else {
      chunk *= 4;
    }
  }
  return best;
}

// The page that KVM and its user share, per vCPU.
class RunState {
 public:
  RunState() = default;
  RunState(RunState&& other) noexcept
      : state_(std::exchange(other.state_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  RunState& operator=(RunState&& other) noexcept {
    std::swap(state_, other.state_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~RunState() {
    if (state_) munmap(state_, bytes_);
  }
  static Result<RunState> map(int kvm, int vcpu) {
    int bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (bytes < static_cast<int>(sizeof(kvm_run))) return system_error("KVM_GET_VCPU_MMAP_SIZE");
    void* at = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (at == MAP_FAILED) return system_error("mapping a vCPU's state");
    RunState made;
    made.state_ = static_cast<kvm_run*>(at);
    made.bytes_ = static_cast<size_t>(bytes);
    return made;
  }
  const kvm_run* operator->() const { return state_; }

 private:
  kvm_run* state_ = nullptr;
  size_t bytes_ = 0;
};

// One vCPU in flat 32-bit protected mode, ring 0, paging off, with 64 KiB of its own memory. Members in the order that
// lets the memory outlive the machine.
class ProbeGuest {
 public:
  static Result<ProbeGuest> create(int kvm, OwnedFd vm) {
    ProbeGuest guest;
    guest.memory_ = HEC_TRY(Mapping::sparse(kGuestBytes));
    std::memcpy(guest.memory_.data() + kCodeAt, kGuestCode, sizeof kGuestCode);
    guest.vm_ = std::move(vm);
    // Older Intel processors cannot run without paging: KVM needs some room outside the guest's memory there. Others
    // ignore it, and a failure shows when the guest runs.
    ioctl(guest.vm_.get(), KVM_SET_TSS_ADDR, 0xfffbd000ul);
    uint64_t identity_map = 0xfffbc000;
    ioctl(guest.vm_.get(), KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
    kvm_userspace_memory_region region{};
    region.memory_size = kGuestBytes;
    region.userspace_addr = reinterpret_cast<uintptr_t>(guest.memory_.data());
    if (ioctl(guest.vm_.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0) return system_error("giving a guest memory");
    guest.vcpu_.reset(ioctl(guest.vm_.get(), KVM_CREATE_VCPU, 0));
    if (!guest.vcpu_.valid()) return system_error("KVM_CREATE_VCPU");
    guest.run_ = HEC_TRY(RunState::map(kvm, guest.vcpu_.get()));
    HEC_TRY(guest.enter_protected_mode());
    return guest;
  }

  // Runs the loop `count` times; whether it did, and came to the right sum.
  bool run(uint32_t count) {
    kvm_regs registers{};
    registers.rip = kCodeAt;
    registers.rcx = count;
    registers.rflags = 2;  // this bit is always one
    if (ioctl(vcpu_.get(), KVM_SET_REGS, &registers) != 0) return false;
    while (ioctl(vcpu_.get(), KVM_RUN, 0) != 0) {
      if (errno != EINTR) return false;
    }
    if (run_->exit_reason != KVM_EXIT_HLT || ioctl(vcpu_.get(), KVM_GET_REGS, &registers) != 0) return false;
    return static_cast<uint32_t>(registers.rax) == count * kAddend;
  }

 private:
  ProbeGuest() = default;

  Result<void> enter_protected_mode() {
    kvm_sregs special;
    if (ioctl(vcpu_.get(), KVM_GET_SREGS, &special) != 0) return system_error("KVM_GET_SREGS");
    kvm_segment flat{};
    flat.limit = 0xffffffff;
    flat.selector = 8;
    flat.type = 11;  // code, readable, accessed
    flat.present = flat.db = flat.s = flat.g = 1;
    special.cs = flat;
    flat.selector = 16;
    flat.type = 3;  // data, writable, accessed
    special.ds = special.es = special.fs = special.gs = special.ss = flat;
    special.cr0 |= 1;
    if (ioctl(vcpu_.get(), KVM_SET_SREGS, &special) != 0) return system_error("KVM_SET_SREGS");
    return {};
  }

  Mapping memory_;
  OwnedFd vm_;
  OwnedFd vcpu_;
  RunState run_;
};

// GiantVM's kernels answer KVM_CAP_X86_DSM, whose number is its tree's own: 133 in GiantVM/Linux-DSM, 249 in
// GiantVM/GVM-kernel (include/uapi/linux/kvm.h of each), 156 in trees between. Stock kernels give these numbers to
// other things, or will, so the answer counts only if KVM also knows the ioctl KVM_DSM_ENABLE: without arguments it
// fails with EFAULT before it does anything, where others say ENOTTY.
bool has_giantvm_dsm(int kvm, int vm) {
  constexpr unsigned long kCapabilities[] = {133, 156, 249};
  struct DsmParameters {
    uint32_t id, addresses_bytes;
    void* addresses;
  };
  bool answers = std::any_of(std::begin(kCapabilities), std::end(kCapabilities), [kvm](unsigned long capability) {
    return ioctl(kvm, KVM_CHECK_EXTENSION, capability) > 0;
  });
  return answers && ioctl(vm, _IOW(KVMIO, 0xf0, DsmParameters), nullptr) != 0 && errno == EFAULT;
}

void time_guest(int kvm, OwnedFd vm, KvmProbe& probe) {
  auto guest = ProbeGuest::create(kvm, std::move(vm));
  if (!guest.ok()) return;
  std::byte page[kPageBytes];
  probe.native_loops_per_us = measure([&page](uint32_t count) { return native_loop(count, page) == count * kAddend; });
  probe.guest_loops_per_us = measure([&guest](uint32_t count) { return guest->run(count); });
  probe.fast = probe.guest_loops_per_us >= probe.native_loops_per_us * KvmProbe::kSlowestFastShare;
}

}  // namespace

KvmProbe probe_kvm() {
  KvmProbe probe;
  OwnedFd kvm(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  probe.present = kvm.valid() || errno != ENOENT;
  if (!kvm.valid()) {
    probe.os_error = errno;
    return probe;
  }
  probe.api_version = ioctl(kvm.get(), KVM_GET_API_VERSION, 0);
  if (probe.api_version != kApiVersion) return probe;
  OwnedFd vm(ioctl(kvm.get(), KVM_CREATE_VM, 0));
  if (!vm.valid()) {
    probe.os_error = errno;
    return probe;
  }
  probe.opens = true;
  probe.giantvm_dsm = has_giantvm_dsm(kvm.get(), vm.get());
  time_guest(kvm.get(), std::move(vm), probe);
  return probe;
}

}  // namespace hecaton
