// Copies from memory to shared memory that run while the thread goes on (sm_80).
#pragma once
#include "ptx.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace ptx {

// 16 bytes, or zeros without reading anything.
__device__ inline void copy_unit(word to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
// The copies since the last call are one group.
__device__ inline void copies_end() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Returns when at most `Left` of this thread's latest groups are on their way.
template <int Left>
__device__ inline void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
}

}  // namespace ptx
}  // namespace WEFT_ISA
}  // namespace weft
