// Rows of online softmax: what both forms of the attention kernel share.
#pragma once
#include <algorithm>
#include <limits>

#include "../../core/executor.hpp"
#include "../../math/softmax_state.hpp"
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
  static constexpr index keys = 128;               // of a key block, aligned to absolute positions
  static constexpr index strip = 4 * rows;         // rows whose scores are in L1 at a time
  static constexpr index few = 16;                 // rows up to which keys are read in place, not packed
  static constexpr index in_place = 32;            // keys of such a block: both products find it in L1
  static constexpr index segment = 2048;           // keys of one part where few rows are split over workers
  static_assert(keys % panel == 0 && in_place % width == 0);

  // Rows that share one packed key block: the more, the less packing a product; their queries and sums stay in L2.
  static constexpr index block_rows(index key_dim, index value_dim) {
    return std::clamp<index>(32768 / std::max<index>(1, key_dim + value_dim) / strip, 1, 6) * strip;
  }
};

template <class R>
WEFT_INLINE index round_up_to_lanes(index n) {
  constexpr index W = simd<R>::width;
  return (n + W - 1) / W * W;
}

namespace detail {

template <int H, class R, int... I>
WEFT_INLINE simd<R> max_with_other_half(simd<R> x, std::integer_sequence<int, I...>) {
  const auto v = std::bit_cast<raw<R, sizeof...(I)>>(x);
  return lane_max(x, std::bit_cast<simd<R>>(__builtin_shufflevector(v, v, (I ^ H)...)));
}
template <int H, class R>
WEFT_INLINE R max_of_lanes(simd<R> x) {
  constexpr int W = simd<R>::width;
  if constexpr (H > 0) return max_of_lanes<H / 2>(max_with_other_half<H>(x, std::make_integer_sequence<int, W>{}));
  else return std::bit_cast<raw<R, W>>(x)[0];
}

// exp(x) for x <= 0: half the instructions of a general one. 2^t = 2^n 2^f with n the nearest whole number; 2^f by a
// polynomial fitted to [-1/2, 1/2], 9e-8 relative. Below 2^-126 exactly 0; a NaN stays one, since the scale multiplies.
WEFT_INLINE simd<float> exp_nonpositive(simd<float> x) {
  constexpr int W = simd<float>::width;
  using floats = raw<float, W>;
  using words = raw<std::uint32_t, W>;
  const simd<float> magic(12582912.f + 127.f);  // 1.5 2^23: the sum's low bits are n + 127, the biased exponent
  const simd<float> t = x * simd<float>(1.44269504f);
  const simd<float> shifted = t + magic;
  const simd<float> f = t - (shifted - magic);
  simd<float> p(1.326472717e-3f);
  p = fma(p, f, simd<float>(9.671512642e-3f));
  p = fma(p, f, simd<float>(5.550733743e-2f));
  p = fma(p, f, simd<float>(2.402224209e-1f));
  p = fma(p, f, simd<float>(6.931469776e-1f));
  p = fma(p, f, simd<float>(1.f));
  const auto scale = std::bit_cast<simd<float>>(words(std::bit_cast<words>(shifted) << 23));
  const auto e = std::bit_cast<words>(p * scale);
  const words gone = words(std::bit_cast<floats>(t) < -126.f);
  return std::bit_cast<simd<float>>(words(e & ~gone));
}
WEFT_INLINE simd<double> exp_nonpositive(simd<double> x) { return exp_(x); }

}  // namespace detail

// One worker's rows: scaled queries, running maxima, sums by lane, accumulators, and the scores of a strip of rows.
template <class R>
struct softmax_rows {
  static constexpr index W = simd<R>::width, keys = attention_tile<R>::keys;

  R* q = nullptr;    // [rows][query_stride]
  R* acc = nullptr;  // [rows][value_stride]
  R* m = nullptr;    // [rows]
  R* l = nullptr;    // [rows][W]
  R* p = nullptr;    // [strip][keys]
  index query_stride = 0, value_stride = 0;

  void place(arena& memory, index rows, index strip) {
    q = memory.take<R>(rows * query_stride);
    acc = memory.take<R>(rows * value_stride);
    m = memory.take<R>(rows);
    l = memory.take<R>(rows * W);
    p = memory.take<R>(strip * keys);
  }

  // The empty set in every row.
  void clear(index rows) {
    std::fill_n(acc, rows * value_stride, R(0));
    std::fill_n(m, rows, -std::numeric_limits<R>::infinity());
    std::fill_n(l, rows * W, R(0));
  }

  WEFT_INLINE R* sums(index row) const { return acc + row * value_stride; }
  // The row after the first becomes the first.
  WEFT_INLINE void next_row() {
    q += query_stride;
    acc += value_stride;
    m += 1;
    l += W;
  }

  static void cap(R* score, index vectors, R softcap) {
    const simd<R> c(softcap), inverse(R(1) / softcap);
    for (index i = 0; i < vectors; ++i) (c * tanh_(simd<R>::load(score + i * W) * inverse)).store(score + i * W);
  }

  // The scores of some keys become exp(score - m); m, l and the accumulator of the row follow.
  WEFT_INLINE void fold_scores(index row, R* score, index vectors) {
    simd<R> top = simd<R>::load(score);
    for (index i = 1; i < vectors; ++i) top = lane_max(top, simd<R>::load(score + i * W));
    const R before = m[row];
    const R now = detail::max_of_lanes<W / 2>(top);
    simd<R> sum = simd<R>::load(l + row * W);
    if (!(now <= before)) {  // also where it is a NaN: the row's sums become NaN
      const softmax_weights<R> w(before, now);
      m[row] = w.m;
      const simd<R> left(w.left);
      sum *= left;
      R* const a = acc + row * value_stride;
      for (index i = 0; i < value_stride; i += W) (left * simd<R>::load(a + i)).store(a + i);
    }
    const simd<R> safe(m[row] == -std::numeric_limits<R>::infinity() ? R(0) : m[row]);
    for (index i = 0; i < vectors; ++i) {
      const simd<R> e = detail::exp_nonpositive(simd<R>::load(score + i * W) - safe);
      e.store(score + i * W);
      sum += e;
    }
    sum.store(l + row * W);
  }

  // The row as one monoid element whose channels are in acc.
  softmax_state<R> element(index row) const { return {m[row], lane_sum(simd<R>::load(l + row * W)), R(0)}; }
};

// Some of the rows, as rows of their own: queries copied to lie side by side, sums where they are.
template <class R>
struct gathered_rows {
  static constexpr index W = simd<R>::width;

  R* q = nullptr;      // [rows][query_stride]
  R* p = nullptr;      // [strip][keys]
  R* spare = nullptr;  // [value_stride], sums of the rows that fill a register block
  R* at[attention_tile<R>::strip]{};  // sums of each row
  index query_stride = 0, value_stride = 0;
  softmax_rows<R>* all = nullptr;
  const std::int32_t* members = nullptr;
  index count = 0, known = 0;

  void place(arena& memory) {
    q = memory.take<R>(attention_tile<R>::strip * query_stride);
    p = memory.take<R>(attention_tile<R>::strip * attention_tile<R>::keys);
    spare = memory.take<R>(value_stride);
  }

  // The first n of `members_known` rows, a strip at most. The others come next: they are asked for meanwhile.
  void gather(softmax_rows<R>& rows, const std::int32_t* numbers, index n, index members_known) {
    all = &rows;
    known = members_known;
    members = numbers;
    count = n;
    value_stride = rows.value_stride;
    std::fill_n(spare, value_stride, R(0));
    std::fill(at + n, at + attention_tile<R>::strip, spare);
    for (index r = 0; r < n; ++r) {
      at[r] = all->sums(members[r]);
      const R* const from = rows.q + members[r] * query_stride;
      for (index i = 0; i < query_stride; i += W) simd<R>::load(from + i).store(q + r * query_stride + i);
    }
  }

  WEFT_INLINE R* sums(index row) const { return at[row]; }
  WEFT_INLINE void fold_scores(index row, R* score, index vectors) {
    if (row + count < known) fetch(members[row + count]);
    all->fold_scores(members[row], score, vectors);
  }

 private:
  WEFT_INLINE void fetch(index row) const {
    constexpr index line = 64 / static_cast<index>(sizeof(R));
    for (index i = 0; i < query_stride; i += line) __builtin_prefetch(all->q + row * query_stride + i, 0, 2);
    for (index i = 0; i < value_stride; i += line) __builtin_prefetch(all->sums(row) + i, 0, 2);
  }
};

}  // namespace WEFT_ISA
}  // namespace weft
