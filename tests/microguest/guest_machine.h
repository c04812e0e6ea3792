// A virtual machine with one processor in ring 3, which runs a program of programs.h on coherent memory. Its page
// tables, code and stack are its own, and never change: no other node need see them. Its entries have the accessed and
// dirty bits already, so that the processor has nothing to write there.
//
// Members in the order that lets the memory outlive the machine. One thread.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "os/memory.h"
#include "os/owned_fd.h"
#include "programs.h"

namespace hecaton::microguest {

class GuestMachine {
 public:
  // `memory`: guest memory, kGuestPages; `seen`: what the program puts down. Both outlive the machine.
  // Error: kUnsupported or kPermission, this machine has no KVM for us.
  static Result<GuestMachine> create(std::byte* memory, std::span<uint64_t> seen);

  // Until the program returns: what it returns.
  Result<uint64_t> run(Code code, uint64_t node, uint64_t nodes, uint64_t count);

 private:
  GuestMachine() = default;
  Result<void> add_memory(uint32_t slot, uint64_t at, const void* from, uint64_t bytes);
  void write_private_memory();
  Result<void> enter_ring_3();

  Mapping private_, run_;
  OwnedFd kvm_, vm_, vcpu_;
};

}  // namespace hecaton::microguest
