// Rows of online softmax: what both forms of the attention kernel share.
#pragma once
#include <algorithm>
#include <limits>

#include "tile.hpp"

namespace weft {
inline namespace WEFT_ISA {

// The numbers of the attention kernel, as data.
template <class R>
struct attention_tile {
  static constexpr int width = simd<R>::width;
  static constexpr bool many_registers = width * sizeof(R) == 64;
  static constexpr int rows = many_registers ? 8 : 6, vectors = 2;  // register block of both products
  static constexpr index panel = vectors * width;  // columns packed side by side
  static constexpr index keys = 64;                // of a key block, aligned to absolute positions
  static constexpr index strip = 8 * rows;         // rows whose scores are in L1 at a time
  static constexpr index few = 8;                  // rows up to which keys are read in place, not packed
  static constexpr index segment = 2048;           // keys of one part where few rows are split over workers
  static_assert(keys % panel == 0);

  // Rows that share one packed key block: the more, the less packing a product; their queries and sums stay in L2.
  static constexpr index block_rows(index key_dim, index value_dim) {
    return std::clamp<index>(32768 / std::max<index>(1, key_dim + value_dim) / strip, 1, 6) * strip;
  }
};

// One worker's rows: packed queries, running maxima, sums by lane, accumulators, and the scores of a strip.
template <class R>
struct softmax_rows {
  R* q = nullptr;     // [rows][query_stride], scaled
  R* acc = nullptr;   // [rows][value_stride]
  R* m = nullptr;     // [rows]
  R* l = nullptr;     // [rows][width]
  R* p = nullptr;     // [strip][keys]
  index query_stride = 0, value_stride = 0;

  void place(arena& memory, index rows, index strip, index keys) {
    q = memory.take<R>(rows * query_stride);
    acc = memory.take<R>(rows * value_stride);
    m = memory.take<R>(rows);
    l = memory.take<R>(rows * simd<R>::width);
    p = memory.take<R>(strip * keys);
  }
  // The empty set in every row.
  void clear(index rows) {
    std::fill_n(acc, rows * value_stride, R(0));
    std::fill_n(m, rows, -std::numeric_limits<R>::infinity());
    std::fill_n(l, rows * simd<R>::width, R(0));
  }
};

namespace detail {

template <class R, int... I>
WEFT_INLINE simd<R> swap_halves(simd<R> x, int_constant_sequence<I...>);

}  // namespace detail

}  // namespace WEFT_ISA
}  // namespace weft
