// Descriptor numbers that the supervisor hands to its children. QEMU's are high, out of the way of descriptors that a
// user hands to QEMU (`-netdev tap,fd=4`).
#pragma once

namespace hecaton::cli {

inline constexpr int kControlFd = 3;    // pager: the control line
inline constexpr int kMemoryFd = 4;     // pager: the guest's RAM
inline constexpr int kStateFd = 5;      // pager: the state memory
inline constexpr int kListenFd = 6;     // pager: the socket in the VM's folder
inline constexpr int kDonorLineFd = 7;  // pager: the VM's own donor is needed; only if there is one
inline constexpr int kParentFd = 3;     // the VM's own donor: its end means that nobody is left who needs it
inline constexpr int kQemuMemoryFd = 900;
inline constexpr int kQemuHandoverFd = 901;
// QEMU only keeps these open: for a new supervisor, if all else has died, and for as long as the guest lives.
inline constexpr int kQemuStateFd = 902;  // the state memory
inline constexpr int kQemuLockFd = 903;   // the VM's name is taken
inline constexpr int kQemuDonorFd = 904;  // the VM's own donor is needed

}  // namespace hecaton::cli
