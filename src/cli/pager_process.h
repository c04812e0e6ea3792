// Descriptor numbers that the supervisor hands to its children. QEMU's are high, out of the way of descriptors that a
// user hands to QEMU (`-netdev tap,fd=4`).
#pragma once

namespace hecaton::cli {

inline constexpr int kControlFd = 3;   // pager: the control line
inline constexpr int kMemoryFd = 4;    // pager: the guest's RAM
inline constexpr int kHandoverFd = 5;  // pager: its end of the handover socket
inline constexpr int kParentFd = 3;    // embedded donor: its end means that the supervisor is gone
inline constexpr int kQemuMemoryFd = 900;
inline constexpr int kQemuHandoverFd = 901;

}  // namespace hecaton::cli
