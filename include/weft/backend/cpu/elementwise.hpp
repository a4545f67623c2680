// Loops over rows and over the vectors of a row: what element-wise and row-wise layers are made of.
#pragma once
#include <algorithm>
#include <array>

#include "../../core/check.hpp"
#include "../../core/executor.hpp"
#include "../../core/output.hpp"
#include "simd.hpp"

namespace weft {
inline namespace WEFT_ISA {

struct whole_vector {};
struct part_vector {
  index count;
};

template <class T>
WEFT_INLINE auto get(const T* p, whole_vector) { return load(p); }
template <class T>
WEFT_INLINE auto get(const T* p, part_vector part) { return load(p, part.count); }
template <class T>
WEFT_INLINE void put(T* p, simd<accumulate_t<T>> x, whole_vector) { store(p, x); }
template <class T>
WEFT_INLINE void put(T* p, simd<accumulate_t<T>> x, part_vector part) { store(p, x, part.count); }

// f(first element, which lanes) over `count` elements, a vector at a time; the last may be a part.
template <class R, class F>
WEFT_INLINE void for_lanes(index count, F&& f) {
  constexpr index W = simd<R>::width;
  index c = 0;
  for (; c + W <= count; c += W) f(c, whole_vector{});
  if (c < count) f(c, part_vector{count - c});
}

// f(i, j, k) over three extents, in tasks of so many rows of `width` elements that a task is worth starting; rows of none are not visited.
template <class F>
void for_rows(cpu& executor, std::array<index, 3> extent, index width, F&& f) {
  constexpr index task = 8192;  // elements
  if (width == 0) return;
  const index rows = extent[0] * extent[1] * extent[2], block = std::max<index>(1, task / width);
  executor.parallel_for((rows + block - 1) / block, [&](index i, int) {
    for (index r = i * block; r < std::min(rows, (i + 1) * block); ++r) {
      const index outer = r / extent[2];
      f(outer / extent[1], outer % extent[1], r % extent[2]);
    }
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
