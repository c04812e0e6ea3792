#include "guest_machine.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <iterator>

#include "base/units.h"

namespace hecaton::microguest {
namespace {

// Guest addresses, which are virtual and physical alike.
constexpr uint64_t kTablesAt = 0x1000;  // four levels, a page each
constexpr uint64_t kCodeAt = 0x8000;
constexpr uint64_t kReturnAt = 0xa000;  // where a program returns to
constexpr uint64_t kStackEnd = 0xc000;
constexpr uint64_t kPrivateBytes = 0x10000;
constexpr uint64_t kMemoryAt = 0x100000;
constexpr uint64_t kSeenAt = 16 << 20;
constexpr uint64_t kLargePage = 2 << 20;

// Present, writable, for ring 3, accessed; and dirty.
constexpr uint64_t kTable = 0x27;
constexpr uint64_t kPage = 0x67;
constexpr uint64_t kLarge = 0xe7;

constexpr uint8_t kPort = 0x10;

// The kernel's kvm_cpuid2, and its requests: in C++ that one has another size, for the empty structure that its header
// puts before an array without bounds.
struct CpuId {
  uint32_t count, padding;
  kvm_cpuid_entry2 entries[128];
};
constexpr size_t kCpuIdHeadBytes = 8;
constexpr unsigned long kGetSupportedCpuId = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, kCpuIdHeadBytes);
constexpr unsigned long kSetCpuId = _IOC(_IOC_WRITE, KVMIO, 0x90, kCpuIdHeadBytes);
static_assert(offsetof(CpuId, entries) == kCpuIdHeadBytes);

}  // namespace

Result<GuestMachine> GuestMachine::create(std::byte* memory, std::span<uint64_t> seen) {
  GuestMachine machine;
  machine.kvm_.reset(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!machine.kvm_.valid()) return system_error("/dev/kvm", ErrorCode::kUnsupported);
  machine.vm_.reset(ioctl(machine.kvm_.get(), KVM_CREATE_VM, 0));
  if (!machine.vm_.valid()) return system_error("KVM_CREATE_VM", ErrorCode::kUnsupported);
  machine.private_ = HEC_TRY(Mapping::sparse(kPrivateBytes));
  machine.write_private_memory();
  HEC_TRY(machine.add_memory(0, 0, machine.private_.data(), kPrivateBytes));
  HEC_TRY(machine.add_memory(1, kMemoryAt, memory, kGuestPages * kPageBytes));
  if (!seen.empty()) HEC_TRY(machine.add_memory(2, kSeenAt, seen.data(), seen.size_bytes()));
  machine.vcpu_.reset(ioctl(machine.vm_.get(), KVM_CREATE_VCPU, 0));
  if (!machine.vcpu_.valid()) return system_error("KVM_CREATE_VCPU");
  const int run_bytes = ioctl(machine.kvm_.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_bytes < static_cast<int>(sizeof(kvm_run))) return system_error("KVM_GET_VCPU_MMAP_SIZE");
  machine.run_ = HEC_TRY(Mapping::shared(machine.vcpu_.get(), static_cast<size_t>(run_bytes)));
  HEC_TRY(machine.enter_ring_3());
  return machine;
}

Result<void> GuestMachine::add_memory(uint32_t slot, uint64_t at, const void* from, uint64_t bytes) {
  kvm_userspace_memory_region region{slot, 0, at, bytes, reinterpret_cast<uint64_t>(from)};
  if (ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0) return system_error("giving a guest memory");
  return {};
}

void GuestMachine::write_private_memory() {
  auto table = [&](size_t level) {
    return reinterpret_cast<uint64_t*>(private_.data() + kTablesAt + level * kPageBytes);
  };
  auto address_of = [](size_t level) { return kTablesAt + level * kPageBytes; };
  table(0)[0] = address_of(1) | kTable;
  table(1)[0] = address_of(2) | kTable;
  table(2)[0] = address_of(3) | kTable;
  for (uint64_t i = 0; i < 512; ++i) table(3)[i] = i * kPageBytes | kPage;
  for (uint64_t i = kSeenAt / kLargePage; i < 512; ++i) table(2)[i] = i * kLargePage | kLarge;
  const std::span<const std::byte> code = all_code();
  std::memcpy(private_.data() + kCodeAt, code.data(), code.size());
  private_.data()[kReturnAt] = std::byte{0xe6};  // out kPort, al
  private_.data()[kReturnAt + 1] = std::byte{kPort};
  std::memcpy(private_.data() + kStackEnd - 8, &kReturnAt, 8);
}

Result<void> GuestMachine::enter_ring_3() {
  CpuId cpuid{};
  cpuid.count = std::size(cpuid.entries);
  if (ioctl(kvm_.get(), kGetSupportedCpuId, &cpuid) != 0) return system_error("KVM_GET_SUPPORTED_CPUID");
  if (ioctl(vcpu_.get(), kSetCpuId, &cpuid) != 0) return system_error("KVM_SET_CPUID2");
  kvm_sregs special;
  if (ioctl(vcpu_.get(), KVM_GET_SREGS, &special) != 0) return system_error("KVM_GET_SREGS");
  special.cr3 = kTablesAt;
  special.cr4 = 0x20;        // physical addresses as wide as long mode has them
  special.cr0 = 0x80050033;  // paging, protection, write protection
  special.efer = 0x500;      // long mode, enabled and active
  kvm_segment flat{};
  flat.limit = 0xffffffff;
  flat.selector = 0x1b;
  flat.type = 11;  // code, readable, accessed
  flat.present = flat.s = flat.g = flat.l = 1;
  flat.dpl = 3;
  special.cs = flat;
  flat.selector = 0x23;
  flat.type = 3;  // data, writable, accessed
  flat.l = 0;
  flat.db = 1;
  special.ds = special.es = special.fs = special.gs = special.ss = flat;
  if (ioctl(vcpu_.get(), KVM_SET_SREGS, &special) != 0) return system_error("KVM_SET_SREGS");
  return {};
}

Result<uint64_t> GuestMachine::run(Code code, uint64_t node, uint64_t nodes, uint64_t count) {
  kvm_regs registers{};
  registers.rip = kCodeAt + offset_of(code);
  registers.rsp = kStackEnd - 8;
  registers.rflags = 0x3002;  // ring 3 may use ports: that is how it ends
  registers.rdi = kMemoryAt;
  registers.rsi = node;
  registers.rdx = nodes;
  registers.rcx = count;
  registers.r8 = kSeenAt;
  if (ioctl(vcpu_.get(), KVM_SET_REGS, &registers) != 0) return system_error("KVM_SET_REGS");
  while (ioctl(vcpu_.get(), KVM_RUN, 0) != 0) {
    if (errno != EINTR && errno != EAGAIN) return system_error("KVM_RUN");
  }
  const auto* run = reinterpret_cast<const kvm_run*>(run_.data());
  if (run->exit_reason != KVM_EXIT_IO || run->io.port != kPort) {
    return Error{ErrorCode::kSystem, static_cast<int>(run->exit_reason), "the guest did not come to its end"};
  }
  if (ioctl(vcpu_.get(), KVM_GET_REGS, &registers) != 0) return system_error("KVM_GET_REGS");
  return registers.rax;
}

}  // namespace hecaton::microguest
