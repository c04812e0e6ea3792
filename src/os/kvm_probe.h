// Whether this machine's KVM is there, opens, and runs guests at the processor's speed.
//
// "Opens" and "is fast" are two questions: a KVM inside a virtual machine may interpret the guest's kernel, instruction
// by instruction, and a guest under it is far slower than under QEMU's own translator. So a small guest is timed.
#pragma once

namespace hecaton {

struct KvmProbe {
  bool present = false;  // /dev/kvm is there
  bool opens = false;    // and may be opened, is of API version 12, and makes a virtual machine
  int os_error = 0;      // why not, if it is present and does not open; 0: wrong API version
  int api_version = 0;
  double guest_loops_per_us = 0;   // 0: the guest did not run
  double native_loops_per_us = 0;  // the same loop in this process
  bool fast = false;               // the guest is no slower than kSlowestFastShare of native
  bool giantvm_dsm = false;        // this KVM has GiantVM's distributed shared memory

  // A loop without exits runs near native speed on a KVM that uses the processor's virtualization: 0.70 to 0.83 of it
  // was measured even where SVM itself was emulated; noise may halve that, and a quarter is still fast. A KVM without
  // it interprets what runs in ring 0: 0.83 of native 2095 loops a microsecond, a share of 0.0004. Nothing lies
  // between.
  static constexpr double kSlowestFastShare = 0.25;
};

// Takes about 50 ms, and 200 ms where KVM is very slow; never waits for the guest without a bound on what it has to do.
KvmProbe probe_kvm();

}  // namespace hecaton
