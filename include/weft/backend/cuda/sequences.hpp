// The offsets of packed sequences, brought to the device in the arguments of a kernel: no copy from host memory that a
// caller may change, no synchronisation, and a captured graph carries them along.
#pragma once
#include <algorithm>
#include <span>

#include "executor.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace detail {

struct some_offsets {
  static constexpr int most = 448;  // with what else there is, below the 4 KB of a kernel's arguments
  int first, count;
  index values[most];
};

static __global__ void put_offsets(index* to, const __grid_constant__ some_offsets part) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < part.count) to[part.first + i] = part.values[i];
}

}  // namespace detail

// Copies cu_seqlens to device memory of as many elements.
inline void upload_offsets(const cuda& executor, std::span<const index> offsets, index* to) {
  for (std::size_t at = 0; at < offsets.size(); at += detail::some_offsets::most) {
    detail::some_offsets part{};
    part.first = static_cast<int>(at);
    part.count = static_cast<int>(std::min<std::size_t>(detail::some_offsets::most, offsets.size() - at));
    std::copy_n(offsets.begin() + static_cast<std::ptrdiff_t>(at), part.count, part.values);
    launch("put_offsets", detail::put_offsets, 1, detail::some_offsets::most, 0, executor.stream(), to, part);
  }
}

}  // namespace WEFT_ISA
}  // namespace weft
