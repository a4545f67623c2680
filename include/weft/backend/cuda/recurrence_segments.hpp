// One long sequence with few heads leaves multiprocessors without work. A segment's effect on the state is linear:
// S_end = M S_begin + B. So segments are scanned beside each other, twice: from nothing, which gives B, and from the unit
// matrix without writing, which gives M. The states between them follow, and each is scanned from its own for its outputs.
#pragma once
#include <vector>

#include "recurrence_tensor.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// Three scans of a segment's length: at least four segments, of 1024 tokens or more.
template <class P>
index segments_of(const cuda& executor, const recurrence_extents& x) {
  if (x.sequences != 1 || x.key_dim != 128 || x.value_dim != 128) return 1;
  const index n = std::min<index>(executor.multiprocessors() / (x.value_heads * (128 / thin_tuning<P>().slice)), x.time / 1024);
  return n >= 4 ? n : 1;
}
// Where they begin and end, in whole chunks.
inline std::vector<index> segment_offsets(index time, index segments) {
  std::vector<index> at;
  const index chunks = (time + 31) / 32;
  for (index i = 0; i <= segments; ++i) at.push_back(std::min(time, chunks * i / segments * 32));
  return at;
}

static __global__ void unit_matrices(float* to, index count, int dim) {
  const index step = static_cast<index>(gridDim.x) * blockDim.x;
  for (index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) to[i] = i % dim == i / dim % dim ? 1.f : 0.f;
}

// states[i] is B of segment i, and becomes the state that it begins with; a block has 8 columns of a head, a thread a key.
static __global__ void join_segments(int segments, int heads, int keys, int values, const float* start, const float* moves, float* states) {
  constexpr int columns = 8;
  extern __shared__ __align__(16) unsigned char join_memory[];
  float* const now = reinterpret_cast<float*>(join_memory);
  const int key = static_cast<int>(threadIdx.x), head = static_cast<int>(blockIdx.x) / (values / columns), column = static_cast<int>(blockIdx.x) % (values / columns) * columns;
  float mine[columns];
  for (int c = 0; c < columns; ++c) mine[c] = start[(static_cast<index>(head) * keys + key) * values + column + c];
  for (int i = 0; i < segments; ++i) {
    const index row = (static_cast<index>(i) * heads + head) * keys + key;
    float* const state = states + row * values + column;
    float next[columns];
    for (int c = 0; c < columns; ++c) now[key * columns + c] = mine[c], next[c] = state[c], state[c] = mine[c];
    if (i + 1 == segments) break;
    __syncthreads();
    for (int j = 0; j < keys; j += 4) {
      const float4 m = *reinterpret_cast<const float4*>(moves + row * keys + j);
      for (int c = 0; c < columns; ++c)
        next[c] += m.x * now[j * columns + c] + m.y * now[(j + 1) * columns + c] + m.z * now[(j + 2) * columns + c] + m.w * now[(j + 3) * columns + c];
    }
    __syncthreads();
    for (int c = 0; c < columns; ++c) mine[c] = next[c];
  }
}

// The floats that run_segments works in.
inline index segment_floats(const recurrence_extents& x, index segments) { return (2 * segments - 1) * x.value_heads * x.key_dim * x.value_dim; }

template <class P, class T>
void run_segments(cuda& executor, tensor_call<P, T>& call, const recurrence_extents& x, index segments, float* matrix, const index* offsets, float* room, T* o) {
  const index one = x.value_heads * x.key_dim * x.value_dim;
  float *const states = room, *const moves = room + segments * one;
  const auto bytes = [&](index n) { return static_cast<std::size_t>(n) * sizeof(float); };
  check_cuda(cudaMemsetAsync(states, 0, bytes(segments * one), executor.stream()), "cudaMemsetAsync");
  constexpr int slice = thin_tuning<P>().slice;
  call.run(slice, segments - 1, states, offsets, nullptr);
  launch("unit_matrices", unit_matrices, 4 * executor.multiprocessors(), 256, 0, executor.stream(), moves, (segments - 1) * one, static_cast<int>(x.key_dim));
  call.run(slice, segments - 1, moves, offsets, nullptr, 0.f);
  launch("join_segments", join_segments, x.value_heads * (x.value_dim / 8), static_cast<int>(x.key_dim), bytes(x.key_dim * 8), executor.stream(), static_cast<int>(segments),
         static_cast<int>(x.value_heads), static_cast<int>(x.key_dim), static_cast<int>(x.value_dim), static_cast<const float*>(matrix), static_cast<const float*>(moves), states);
  call.run(slice, segments, states, offsets, o);
  check_cuda(cudaMemcpyAsync(matrix, states + (segments - 1) * one, bytes(one), cudaMemcpyDeviceToDevice, executor.stream()), "cudaMemcpyAsync");
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
