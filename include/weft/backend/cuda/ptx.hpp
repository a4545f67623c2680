// The instructions of the tensor-core engine, each a function: its operands' layout in the warp is said beside it.
// lane = 4 g + i with g in 0..7 and i in 0..3. sm_80 has mma, ldmatrix and cp.async; the rest is sm_90.
#pragma once
#include <cstdint>

#include "../../core/dtype.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace ptx {

using word = std::uint32_t;  // two 16-bit numbers, the lower one first

// Asked once and kept: the compiler would ask again wherever it is used.
__device__ inline int lane() {
  int l;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(l));
  return l;
}
// A value that the compiler takes as it is here: what it was made of is not made again later, nor what follows made earlier.
__device__ inline void pin(word& x) { asm volatile("" : "+r"(x)); }
__device__ inline void pin(float& x) { asm volatile("" : "+f"(x)); }
__device__ inline void pin(int& x) { asm volatile("" : "+r"(x)); }
__device__ inline word shared_address(const void* p) { return static_cast<word>(__cvta_generic_to_shared(p)); }

// Two floats as two numbers of T, rounded to nearest even.
template <class T>
__device__ inline word pack(float low, float high) {
  word r;
  if constexpr (std::is_same_v<T, bf16>) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
template <class T>
__device__ inline float2 unpack(word x) {
  if constexpr (std::is_same_v<T, bf16>) return {__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u)};
  else {
    float2 r;
    asm("{ .reg .b16 a, b; mov.b32 {a, b}, %2; cvt.f32.f16 %0, a; cvt.f32.f16 %1, b; }" : "=f"(r.x), "=f"(r.y) : "r"(x));
    return r;
  }
}

// sum + 0 * x, of pairs of T: NaN where x is not finite.
template <class T>
__device__ inline word add_zero_times(word sum, word x) {
  if constexpr (std::is_same_v<T, bf16>) asm("fma.rn.bf16x2 %0, %1, %2, %0;" : "+r"(sum) : "r"(x), "r"(0u));
  else asm("fma.rn.f16x2 %0, %1, %2, %0;" : "+r"(sum) : "r"(x), "r"(0u));
  return sum;
}

// Products of pairs of T.
template <class T>
__device__ inline word multiply(word x, word y) {
  word r;
  if constexpr (std::is_same_v<T, bf16>) asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(x), "r"(y));
  else asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(x), "r"(y));
  return r;
}

// 2^x; results below 2^-126 are 0.
__device__ inline float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// c += a b, with a 16 x 16, b 16 x 8, c 16 x 8 floats.
//   a: {row g, columns 2i 2i+1}, {row g+8, the same}, {row g, columns 2i+8 2i+9}, {row g+8, the same}
//   b: {rows 2i 2i+1, column g}, {rows 2i+8 2i+9, column g}
//   c: (g, 2i), (g, 2i+1), (g+8, 2i), (g+8, 2i+1)
template <class T>
__device__ inline void mma(float (&c)[4], const word (&a)[4], word b0, word b1) {
  if constexpr (std::is_same_v<T, bf16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 x 8 matrices of 16-bit numbers: lanes 8m to 8m+7 bring the addresses of the rows of matrix m, 16 bytes each;
// word m of a lane is (row g, columns 2i 2i+1) of matrix m, transposed: (rows 2i 2i+1, column g).
__device__ inline void load_matrices(word (&r)[4], word address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
__device__ inline void load_matrices_transposed(word (&r)[4], word address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
// The reverse of load_matrices_transposed (sm_90).
__device__ inline void store_matrices_transposed(word address, const word (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}
// The reverse of load_matrices (sm_90).
__device__ inline void store_matrices(word address, const word (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}

// Barriers in shared memory. A phase ends when as many threads as expected have arrived and the announced bytes are there;
// wait(b, p) returns once the phase of parity p has ended.
__device__ inline void barrier_init(word barrier, int arrivals) { asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory"); }
__device__ inline void barrier_end(word barrier) { asm volatile("mbarrier.inval.shared.b64 [%0];" ::"r"(barrier) : "memory"); }
__device__ inline void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void arrive(word barrier) { asm volatile("{ .reg .b64 t; mbarrier.arrive.shared.b64 t, [%0]; }" ::"r"(barrier) : "memory"); }
__device__ inline void arrive_expecting(word barrier, int bytes) {
  asm volatile("{ .reg .b64 t; mbarrier.arrive.expect_tx.shared.b64 t, [%0], %1; }" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ inline void wait(word barrier, word parity) {
  word done = 0;
  do {
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
  } while (!done);
}

// Named barrier of `threads` threads of the block, 1 to 15.
__device__ inline void sync_threads(int barrier, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory"); }

// Into the L2 cache, 128 bytes around p.
__device__ inline void fetch_ahead(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

// The copy engine (sm_90): a box of a tensor described by a map, at element coordinates innermost first. Elements outside of
// the tensor come as zeros and do not go. One thread asks; a load ends in the barrier's announced bytes.
__device__ inline void tensor_load(word to, const void* map, int x, int y, int z, int w, word barrier) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2,%3,%4,%5}], [%6];" ::"r"(to), "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(barrier)
               : "memory");
}
__device__ inline void tensor_store(const void* map, word from, int x, int y, int z, int w) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%1,%2,%3,%4}], [%5];" ::"l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(from) : "memory");
}
// Waits until this thread's stores have read shared memory.
__device__ inline void stores_read() { asm volatile("cp.async.bulk.commit_group;\n cp.async.bulk.wait_group.read 0;" ::: "memory"); }
// Waits until they have arrived.
__device__ inline void stores_done() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
// What this thread wrote to shared memory is seen by the copy engine after the next barrier.
__device__ inline void publish_to_copies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace ptx
}  // namespace WEFT_ISA
}  // namespace weft
