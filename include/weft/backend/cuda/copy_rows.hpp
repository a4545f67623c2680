// A strided tensor, copied to contiguous memory.
#pragma once
#include <algorithm>

#include "executor.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <class T>
__global__ void copy_rows_kernel(const __grid_constant__ view<const T, 4> from, T* to) {
  const index count = from.size(), step = static_cast<index>(gridDim.x) * blockDim.x;
  for (index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const index channel = i % from.extent[3], head = i / from.extent[3] % from.extent[2], row = i / from.extent[3] / from.extent[2];
    to[i] = from(row / from.extent[1], row % from.extent[1], head, channel);
  }
}

template <class T>
void copy_rows(const cuda& executor, const view<const T, 4>& from, T* to) {
  launch("copy_rows", copy_rows_kernel<T>, std::min<index>((from.size() + 255) / 256, 8 * executor.multiprocessors()), 256, 0, executor.stream(), from, to);
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
