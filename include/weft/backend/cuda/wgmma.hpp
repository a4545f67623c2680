// Matrix products of four warps (sm_90a): 64 rows, right operands in shared memory, results in registers after a wait.
#pragma once
#include "ptx.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace ptx {

// A swizzled_tile as an operand: rows of 128 bytes, eight of which are `rows_step` bytes from the next eight. `panel_step`: from one
// panel of 64 columns to the next, where the columns are not the dimension that a product sums over.
__device__ inline std::uint64_t matrix_of(word address, word panel_step = 16, word rows_step = 1024) {
  return std::uint64_t{(address & 0x3ffff) >> 4} | std::uint64_t{panel_step >> 4} << 16 | std::uint64_t{rows_step >> 4} << 32 | std::uint64_t{1} << 62;
}

// How many registers the threads of four warps have from here on: a block's roles share what the launch gave. A multiple of 8.
template <int Count>
__device__ inline void give_registers_back() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count)); }
template <int Count>
__device__ inline void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count)); }

// Before the first product of a group, and whenever registers were written since the last.
__device__ inline void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void products_end() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Returns when at most `Left` of the latest groups are unfinished.
template <int Left>
__device__ inline void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Left) : "memory");
}
// The compiler keeps what it does with x on this side of the place.
template <int N>
__device__ inline void pin(float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(x[i])::"memory");
}

#define WEFT_FLOATS_8(x, i) "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3]), "+f"(x[i + 4]), "+f"(x[i + 5]), "+f"(x[i + 6]), "+f"(x[i + 7])
#define WEFT_FLOATS_32(x, i) WEFT_FLOATS_8(x, i), WEFT_FLOATS_8(x, i + 8), WEFT_FLOATS_8(x, i + 16), WEFT_FLOATS_8(x, i + 24)
#define WEFT_NAMES_32 \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define WEFT_NAMES_64 \
  WEFT_NAMES_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

// c (+)= a b of 64 x 16 by 16 x N. Block n of c, 64 x 8: c[4n ..] as the accumulators of mma, sixteen rows a warp.
// a and b: rows [m][k] and [n][k] in shared memory.
template <class T>
__device__ inline void group_product(float (&c)[64], std::uint64_t a, std::uint64_t b, bool add) {
#define WEFT_PRODUCT(type)                                                                                                       \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " " WEFT_NAMES_64 "}, %64, %65, p, 1, 1, 0, 0; }" \
               : WEFT_FLOATS_32(c, 0), WEFT_FLOATS_32(c, 32)                                                                      \
               : "l"(a), "l"(b), "r"(static_cast<int>(add)))
  if constexpr (std::is_same_v<T, bf16>) WEFT_PRODUCT("bf16");
  else WEFT_PRODUCT("f16");
#undef WEFT_PRODUCT
}

// c += a b with a in registers, as a left operand of mma, and b: rows [k][n] in shared memory.
template <class T>
__device__ inline void group_product_turned(float (&c)[64], const word (&a)[4], std::uint64_t b) {
#define WEFT_PRODUCT(type)                                                                                                        \
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " " WEFT_NAMES_64 "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 1;" \
               : WEFT_FLOATS_32(c, 0), WEFT_FLOATS_32(c, 32)                                                                       \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
  if constexpr (std::is_same_v<T, bf16>) WEFT_PRODUCT("bf16");
  else WEFT_PRODUCT("f16");
#undef WEFT_PRODUCT
}
template <class T>
__device__ inline void group_product_turned(float (&c)[32], const word (&a)[4], std::uint64_t b) {
#define WEFT_PRODUCT(type)                                                                                                       \
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " " WEFT_NAMES_32 "}, {%32,%33,%34,%35}, %36, 1, 1, 1, 1;" \
               : WEFT_FLOATS_32(c, 0)                                                                                              \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
  if constexpr (std::is_same_v<T, bf16>) WEFT_PRODUCT("bf16");
  else WEFT_PRODUCT("f16");
#undef WEFT_PRODUCT
}

#undef WEFT_NAMES_64
#undef WEFT_NAMES_32
#undef WEFT_FLOATS_32
#undef WEFT_FLOATS_8

}  // namespace ptx
}  // namespace WEFT_ISA
}  // namespace weft
