// Small dense products whose operands sit in L1, blocked for registers: what both engines spend their time in.
// All matrices are row-major; widths of panels are multiples of a vector.
#pragma once
#include "simd.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace tile {

// out(r)[Vectors] = A[Rows][depth] S[depth][Vectors] in the rows r < Rows, or added to what is there. S may be 16 bits.
template <int Rows, int Vectors, bool Accumulate = false, class R, class S, class Out>
WEFT_INLINE void product_rows(const R* a, index lda, const S* s, index lds, Out&& out, index depth) {
  constexpr int W = simd<R>::width;
  simd<R> sum[Rows][Vectors];
  WEFT_UNROLL for (int r = 0; r < Rows; ++r)
    WEFT_UNROLL for (int n = 0; n < Vectors; ++n) sum[r][n] = Accumulate ? simd<R>::load(out(r) + n * W) : simd<R>(R(0));
  for (index k = 0; k < depth; ++k) {
    simd<R> x[Vectors];
    WEFT_UNROLL for (int n = 0; n < Vectors; ++n) x[n] = load(s + k * lds + n * W);
    WEFT_UNROLL for (int r = 0; r < Rows; ++r) {
      const simd<R> b(a[r * lda + k]);
      WEFT_UNROLL for (int n = 0; n < Vectors; ++n) sum[r][n] = fma(b, x[n], sum[r][n]);
    }
  }
  WEFT_UNROLL for (int r = 0; r < Rows; ++r)
    WEFT_UNROLL for (int n = 0; n < Vectors; ++n) sum[r][n].store(out(r) + n * W);
}
template <int Rows, int Vectors, bool Accumulate = false, class R, class S>
WEFT_INLINE void product_block(const R* a, index lda, const S* s, index lds, R* out, index ldo, index depth) {
  product_rows<Rows, Vectors, Accumulate>(a, lda, s, lds, [&](int r) { return out + r * ldo; }, depth);
}

// out[rows][vectors] = A[rows][depth] S[depth][vectors] in blocks of Rows x Vectors.
template <int Rows, int Vectors, bool Accumulate = false, class R>
WEFT_INLINE void product(const R* a, index lda, index rows, const R* s, index lds, R* out, index ldo, index vectors, index depth) {
  constexpr int W = simd<R>::width;
  const index whole = rows - rows % Rows, wide = vectors - vectors % Vectors;
  for (index n = 0; n < wide; n += Vectors) {
    for (index r = 0; r < whole; r += Rows)
      product_block<Rows, Vectors, Accumulate>(a + r * lda, lda, s + n * W, lds, out + r * ldo + n * W, ldo, depth);
    for (index r = whole; r < rows; ++r) product_block<1, Vectors, Accumulate>(a + r * lda, lda, s + n * W, lds, out + r * ldo + n * W, ldo, depth);
  }
  if constexpr (Vectors > 1)
    for (index n = wide; n < vectors; ++n) product<Rows, 1, Accumulate>(a, lda, rows, s + n * W, lds, out + n * W, ldo, 1, depth);
}

// S[Keys][Vectors] = diag(gamma) S + A[tokens][Keys]^T X[tokens][Vectors].
template <int Keys, int Vectors, class R>
WEFT_INLINE void update_block(const R* gamma, const R* a, index lda, const R* x, index ldx, R* s, index lds, index tokens) {
  constexpr int W = simd<R>::width;
  simd<R> sum[Keys][Vectors];
  WEFT_UNROLL for (int r = 0; r < Keys; ++r) {
    const simd<R> g(gamma[r]);
    WEFT_UNROLL for (int n = 0; n < Vectors; ++n) sum[r][n] = g * simd<R>::load(s + r * lds + n * W);
  }
  for (index t = 0; t < tokens; ++t) {
    simd<R> y[Vectors];
    WEFT_UNROLL for (int n = 0; n < Vectors; ++n) y[n] = simd<R>::load(x + t * ldx + n * W);
    WEFT_UNROLL for (int r = 0; r < Keys; ++r) {
      const simd<R> b(a[t * lda + r]);
      WEFT_UNROLL for (int n = 0; n < Vectors; ++n) sum[r][n] = fma(b, y[n], sum[r][n]);
    }
  }
  WEFT_UNROLL for (int r = 0; r < Keys; ++r)
    WEFT_UNROLL for (int n = 0; n < Vectors; ++n) sum[r][n].store(s + r * lds + n * W);
}

// The same for all `keys` rows of a panel of `vectors`.
template <int Keys, int Vectors, class R>
WEFT_INLINE void update(const R* gamma, const R* a, index lda, index keys, const R* x, index ldx, R* s, index lds, index vectors, index tokens) {
  constexpr int W = simd<R>::width;
  const index whole = keys - keys % Keys, wide = vectors - vectors % Vectors;
  for (index n = 0; n < wide; n += Vectors) {
    for (index k = 0; k < whole; k += Keys)
      update_block<Keys, Vectors>(gamma + k, a + k, lda, x + n * W, ldx, s + k * lds + n * W, lds, tokens);
    for (index k = whole; k < keys; ++k) update_block<1, Vectors>(gamma + k, a + k, lda, x + n * W, ldx, s + k * lds + n * W, lds, tokens);
  }
  if constexpr (Vectors > 1)
    for (index n = wide; n < vectors; ++n) update<Keys, 1>(gamma, a, lda, keys, x + n * W, ldx, s + n * W, lds, 1, tokens);
}

// to[Rows][Vectors] = from diag(gamma) + A[tokens][Rows]^T X[tokens][Vectors]: an update whose decays lie along the vectors.
template <int Rows, int Vectors, class R>
WEFT_INLINE void carry_block(const R* gamma, const R* from, const R* a, index lda, const R* x, index ldx, R* to, index lds, index tokens) {
  constexpr int W = simd<R>::width;
  simd<R> sum[Rows][Vectors];
  WEFT_UNROLL for (int n = 0; n < Vectors; ++n) {
    const simd<R> g = simd<R>::load(gamma + n * W);
    WEFT_UNROLL for (int r = 0; r < Rows; ++r) sum[r][n] = g * simd<R>::load(from + r * lds + n * W);
  }
  for (index t = 0; t < tokens; ++t) {
    simd<R> y[Vectors];
    WEFT_UNROLL for (int n = 0; n < Vectors; ++n) y[n] = simd<R>::load(x + t * ldx + n * W);
    WEFT_UNROLL for (int r = 0; r < Rows; ++r) {
      const simd<R> b(a[t * lda + r]);
      WEFT_UNROLL for (int n = 0; n < Vectors; ++n) sum[r][n] = fma(b, y[n], sum[r][n]);
    }
  }
  WEFT_UNROLL for (int r = 0; r < Rows; ++r)
    WEFT_UNROLL for (int n = 0; n < Vectors; ++n) sum[r][n].store(to + r * lds + n * W);
}

// The same for all rows of matrices of `vectors`.
template <int Rows, int Vectors, class R>
WEFT_INLINE void carry(const R* gamma, const R* from, const R* a, index lda, index rows, const R* x, index ldx, R* to, index lds, index vectors, index tokens) {
  constexpr int W = simd<R>::width;
  const index whole = rows - rows % Rows, wide = vectors - vectors % Vectors;
  for (index n = 0; n < wide; n += Vectors) {
    for (index r = 0; r < whole; r += Rows) carry_block<Rows, Vectors>(gamma + n * W, from + r * lds + n * W, a + r, lda, x + n * W, ldx, to + r * lds + n * W, lds, tokens);
    for (index r = whole; r < rows; ++r) carry_block<1, Vectors>(gamma + n * W, from + r * lds + n * W, a + r, lda, x + n * W, ldx, to + r * lds + n * W, lds, tokens);
  }
  if constexpr (Vectors > 1)
    for (index n = wide; n < vectors; ++n) carry<Rows, 1>(gamma + n * W, from + n * W, a, lda, rows, x + n * W, ldx, to + n * W, lds, 1, tokens);
}

// to[columns][rows] = from[rows][columns]^T, both extents whole vectors.
template <class R>
WEFT_INLINE void transpose(const R* from, index ldf, index rows, index columns, R* to, index ldt) {
  constexpr index W = simd<R>::width;
  for (index i = 0; i < rows; i += W)
    for (index j = 0; j < columns; j += W) transpose_block(from + i * ldf + j, ldf, to + j * ldt + i, ldt);
}

// out[t][s] = x_t . y_s for s <= t, of rows of `width` numbers (whole vectors); the rest of `out` is left alone.
template <int Tokens, class R>
WEFT_INLINE void triangle_of_dots(const R* x, const R* y, index width, R* out) {
  constexpr int W = simd<R>::width, T = 4, S = 2;
  static_assert(Tokens % T == 0, "weft: a chunk is a whole number of blocks");
  for (int s = 0; s < Tokens; s += S)
    for (int t = s / T * T; t < Tokens; t += T) {
      simd<R> sum[T * S];
      WEFT_UNROLL for (int e = 0; e < T * S; ++e) sum[e] = simd<R>(R(0));
      for (index i = 0; i < width; i += W) {
        simd<R> row[S];
        WEFT_UNROLL for (int c = 0; c < S; ++c) row[c] = simd<R>::load(y + (s + c) * width + i);
        WEFT_UNROLL for (int r = 0; r < T; ++r) {
          const simd<R> a = simd<R>::load(x + (t + r) * width + i);
          WEFT_UNROLL for (int c = 0; c < S; ++c) sum[c * T + r] = fma(a, row[c], sum[c * T + r]);
        }
      }
      R sums[T * S > W ? T * S : W];
      lane_sums<T * S>(sum, sums);
      WEFT_UNROLL for (int c = 0; c < S; ++c)
        WEFT_UNROLL for (int r = 0; r < T; ++r)
          if (s + c <= t + r) out[(t + r) * Tokens + s + c] = sums[c * T + r];
    }
}

}  // namespace tile
}  // namespace WEFT_ISA
}  // namespace weft
