// One chunk on one panel of value columns: reads, substitution, outputs, update. The panel's state stays in L1.
//
//   class L:  V = Z                                         O = Q S + P V          S <- gamma S + K^T V
//   class D:  (I + T) V = Z - E S                           the same
//   class R:  (I + T_p) X = -E S - T_k Z,  V = [Z; X]       the same over both writers
#pragma once
#include "recurrence_chunk.hpp"
#include "tile.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace detail {

// acc[t][x] -= w[t] * y, for the tokens of a block; w is a column of a [Tokens][Tokens] matrix.
template <int Tokens, int Block, int Vectors, bool Subtract, class R>
WEFT_INLINE void rank_one(simd<R> (&acc)[Block][Vectors], const R* w, const R* row) {
  simd<R> y[Vectors];
  WEFT_UNROLL for (int x = 0; x < Vectors; ++x) y[x] = simd<R>::load(row + x * simd<R>::width);
  WEFT_UNROLL for (int t = 0; t < Block; ++t) {
    const simd<R> f(w[t * Tokens]);
    WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[t][x] = Subtract ? fnma(f, y[x], acc[t][x]) : fma(f, y[x], acc[t][x]);
  }
}

// Solves for the erased values of Vectors columns by substitution, a block of tokens at a time in registers.
template <axes A, recurrence_tile X, class R>
WEFT_INLINE void substitute(const chunk<R>& c, const R* reads, R* values) {
  using traits = chunk_traits<A>;
  constexpr int Tokens = X.tokens, Block = X.block, Vectors = X.solve_vectors, W = simd<R>::width, L = X.panel * W;
  constexpr bool two = traits::writers == 2;
  const R* const z = values;                       // class R: the values of the first writer
  R* const solved = values + (two ? Tokens * L : 0);
  const R* const by_k = c.pairs_c;                 // class R: T against the first writer
  const R* const by_p = c.pairs_c + (two ? Tokens * Tokens : 0);
  for (int b = 0; b < Tokens; b += Block) {
    simd<R> acc[Block][Vectors];
    WEFT_UNROLL for (int t = 0; t < Block; ++t)
      WEFT_UNROLL for (int x = 0; x < Vectors; ++x) {
        const simd<R> read = simd<R>::load(reads + (b + t) * L + x * W);
        acc[t][x] = two ? -read : simd<R>::load(solved + (b + t) * L + x * W) - read;
      }
    if constexpr (two)
      for (int s = 0; s < b; ++s) rank_one<Tokens, Block, Vectors, true>(acc, by_k + b * Tokens + s, z + s * L);
    for (int s = 0; s < b; ++s) rank_one<Tokens, Block, Vectors, true>(acc, by_p + b * Tokens + s, solved + s * L);
    WEFT_UNROLL for (int s = 0; s < Block; ++s) {
      WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[s][x].store(solved + (b + s) * L + x * W);
      WEFT_UNROLL for (int t = s + 1; t < Block; ++t) {
        const simd<R> f(by_p[(b + t) * Tokens + b + s]);
        WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[t][x] = fnma(f, acc[s][x], acc[t][x]);
        if constexpr (two) {
          const simd<R> fk(by_k[(b + t) * Tokens + b + s]);
          WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[t][x] = fnma(fk, simd<R>::load(z + (b + s) * L + x * W), acc[t][x]);
        }
      }
    }
  }
}

// y = Q S + P V of Vectors columns.
template <axes A, recurrence_tile X, class R>
WEFT_INLINE void outputs(const chunk<R>& c, const R* reads, const R* values, R* y) {
  using traits = chunk_traits<A>;
  constexpr int Tokens = X.tokens, Block = X.block, Vectors = X.solve_vectors, W = simd<R>::width, L = X.panel * W;
  for (int b = 0; b < Tokens; b += Block) {
    simd<R> acc[Block][Vectors];
    WEFT_UNROLL for (int t = 0; t < Block; ++t)
      WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[t][x] = simd<R>::load(reads + ((traits::erases ? Tokens : 0) + b + t) * L + x * W);
    WEFT_UNROLL for (int w = 0; w < traits::writers; ++w) {
      const R* const pairs = c.pairs_q + (w * Tokens + b) * Tokens;
      const R* const v = values + w * Tokens * L;
      for (int s = 0; s < b; ++s) rank_one<Tokens, Block, Vectors, false>(acc, pairs + s, v + s * L);
      WEFT_UNROLL for (int s = 0; s < Block; ++s) {
        simd<R> row[Vectors];
        WEFT_UNROLL for (int x = 0; x < Vectors; ++x) row[x] = simd<R>::load(v + (b + s) * L + x * W);
        WEFT_UNROLL for (int t = s; t < Block; ++t) {
          const simd<R> f(pairs[t * Tokens + b + s]);
          WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[t][x] = fma(f, row[x], acc[t][x]);
        }
      }
    }
    WEFT_UNROLL for (int t = 0; t < Block; ++t)
      WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[t][x].store(y + (b + t) * L + x * W);
  }
}

// The whole chunk on the panel of columns whose state is `s` [keys][panel]; results in c.y [tokens][panel].
template <axes A, recurrence_tile X, int Key, class R>
[[gnu::noinline]] void panel(const chunk<R>& c, index column, R* s, int n) {
  using traits = chunk_traits<A>;
  constexpr int Tokens = X.tokens, W = simd<R>::width, L = X.panel * W;
  const width_of<Key> keys{c.keys};
  constexpr int readers = (traits::erases ? 2 : 1) * Tokens;
  static_assert(readers % X.read_rows == 0 && X.panel % X.read_vectors == 0 && X.panel % X.update_vectors == 0 && X.panel % X.solve_vectors == 0,
                "weft: a tile divides the chunk and the panel");
  tile::product<X.read_rows, X.read_vectors>(c.readers, keys, readers, s, L, c.reads, L, X.panel, keys);
  for (int t = 0; t < Tokens; ++t)
    WEFT_UNROLL for (int x = 0; x < X.panel; ++x) simd<R>::load(c.z + t * c.columns + column + x * W).store(c.values + t * L + x * W);
  for (int x = 0; x < X.panel; x += X.solve_vectors) {
    if constexpr (traits::erases) substitute<A, X>(c, c.reads + x * W, c.values + x * W);
    outputs<A, X>(c, c.reads + x * W, c.values + x * W, c.y + x * W);
  }
  // Tokens past the end write nothing, whatever an infinite state made of their reads.
  if (n < Tokens)
    for (int w = 0; w < traits::writers; ++w) std::fill(c.values + (w * Tokens + n) * L, c.values + (w + 1) * Tokens * L, R(0));
  tile::update<X.update_keys, X.update_vectors>(c.gamma, c.writers, keys, keys, c.values, L, s, L, X.panel, traits::writers * Tokens);
}

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
