// The end of a call on attention: its tokens go into the cache, and the lengths grow.
#pragma once
#include "attention_job.hpp"
#include "runtime.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// Rows of 16-byte units where `units` of them make a row, else of numbers.
template <class T>
__device__ void copy_row(const T* from, T* to, int dim, int part, int parts, bool by_units) {
  if (by_units) {
    const int units = dim * static_cast<int>(sizeof(T)) / 16;
    for (int i = part; i < units; i += parts) reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
  } else {
    for (int i = part; i < dim; i += parts) to[i] = from[i];
  }
}

// A warp a row. With one block a sequence the lengths grow here too. What later queries cannot read is not written.
template <class T, class Selector>
__global__ void attention_append(const __grid_constant__ attention_job<T, Selector> job, int blocks, bool key_units, bool value_units) {
  constexpr index tokens = 32;
  const index n = blockIdx.x / blocks, first = blockIdx.x % blocks * tokens;
  const call_sequence s = job.sequence(n);
  const auto& slots = job.cache.slots;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32), warps = static_cast<int>(blockDim.x / 32);
  if (s.fits)
    for (index row = first * job.heads + warp; row < min(first + tokens, s.count) * job.heads; row += warps) {
      const int h = static_cast<int>(row % job.heads);
      const index p = s.held + row / job.heads;
      if (p >= slots.kept && p < s.keys() - slots.around()) continue;
      const index to = job.cache.row(n, job.heads, h, p);
      if (to < 0) continue;
      copy_row(job.key(s, h, p), job.cache.keys + to * job.key_dim, job.key_dim, lane, 32, key_units);
      copy_row(job.value(s, h, p), job.cache.values + to * job.value_dim, job.value_dim, lane, 32, value_units);
    }
  if (blocks > 1) return;
  __syncthreads();
  if (threadIdx.x == 0 && s.fits) job.cache.length[n] += s.count;
}

template <class T, class Selector>
__global__ void attention_lengths(const __grid_constant__ attention_job<T, Selector> job) {
  const index n = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= job.sequences) return;
  const call_sequence s = job.sequence(n);
  if (s.fits) job.cache.length[n] += s.count;
}

template <class T>
bool has_units(const T* data, index dim, const index* strides) {
  const auto whole = [](index bytes) { return bytes % 16 == 0; };
  const index size = sizeof(T);
  return whole(static_cast<index>(reinterpret_cast<std::uintptr_t>(data))) && whole(dim * size) && whole(strides[0] * size) && whole(strides[1] * size) && whole(strides[2] * size);
}

template <class T, class Selector>
void append_tokens(cuda& executor, const attention_job<T, Selector>& job) {
  const index strides_k[] = {job.k.batch, job.k.time, job.k.head}, strides_v[] = {job.v.batch, job.v.time, job.v.head};
  const index blocks = std::max<index>(1, (job.time + 31) / 32);
  launch("attention_append", attention_append<T, Selector>, job.sequences * blocks, 256, 0, executor.stream(), job, static_cast<int>(blocks),
         has_units(job.k.data, job.key_dim, strides_k), has_units(job.v.data, job.value_dim, strides_v));
  if (blocks > 1) launch("attention_lengths", attention_lengths<T, Selector>, (job.sequences + 127) / 128, 128, 0, executor.stream(), job);
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
