// Sums over rows with the same bits for any number of workers: what gradients of parameters are made of.
#pragma once
#include <algorithm>
#include <array>

#include "elementwise.hpp"

namespace weft {
inline namespace WEFT_ISA {

// f(i, j, k, sum) over three extents, which adds what a row of `width` elements brings to the `sums` numbers at `sum`. Rows
// are cut into parts by their extents alone, each with sums of its own; add(sum) gets the parts' in order.
template <class R, class F, class Add>
void sum_over_rows(cpu& executor, std::array<index, 3> extent, index width, index sums, F&& f, Add&& add) {
  constexpr index task = 8192, most_parts = 64;
  const index rows = extent[0] * extent[1] * extent[2], parts = std::clamp<index>(rows * width / task, 1, most_parts);
  const index block = (rows + parts - 1) / parts;
  temporaries::scope memory(executor.temporaries());
  const auto partial = memory.take<R>(parts, sums);
  executor.parallel_for(parts, [&](index i, int) {
    R* const sum = partial.data + i * sums;
    std::fill_n(sum, sums, R(0));
    for (index r = i * block; r < std::min(rows, (i + 1) * block); ++r) {
      const index outer = r / extent[2];
      f(outer / extent[1], outer % extent[1], r % extent[2], sum);
    }
  });
  for (index i = 0; i < parts && !executor.rehearsing(); ++i) add(partial.data + i * sums);
}

// to[i] += from[i]
template <class R>
void add_to(R* to, const R* from, index count) {
  for_lanes<R>(count, [&](index c, auto lane) { put(to + c, get(to + c, lane) + get(from + c, lane), lane); });
}

}  // namespace WEFT_ISA
}  // namespace weft
