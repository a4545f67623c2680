// One chunk of a recurrence in canonical terms, ready for the panels: what all value columns of a head share.
//
// For C tokens with incoming state S_0 and A_t the product of the chunk's decays up to token t:
//   readers  q_t A_t (inclusive) | q_t A_{t-1} (exclusive), and the erase readers c_t A_t (post) | c_t A_{t-1} (pre)
//   writers  k_s A_C / A_s, p_s A_C / A_s
//   P_ts, T_ts  products of the readers q, c of token t with the writers of token s, decayed in between
// No quotient is ever formed: each writer is carried through the tokens after it by their decays, so every factor is a
// product of numbers in [0, 1] and exact down to g = -inf.
#pragma once
#include <algorithm>

#include "../../core/executor.hpp"
#include "../../recurrence/axes.hpp"
#include "tuning.hpp"

namespace weft {
inline namespace WEFT_ISA {

// A key width known to the compiler, or (0) given at run time.
template <int Fixed>
struct width_of {
  index value;
  WEFT_INLINE operator index() const { return Fixed > 0 ? Fixed : value; }  // NOLINT: implicit by design
};

template <axes A>
struct chunk_traits {
  static constexpr bool erases = A.erase != erase::none;
  static constexpr int writers = A.erase == erase::two_writers ? 2 : 1;
  static constexpr bool channel = A.decay == decay::per_channel;
  static constexpr bool scalar = A.decay == decay::per_head || A.decay == decay::per_token;
  static constexpr bool exclusive = A.read == read::exclusive_bonus;
  static constexpr bool pre = A.timing == timing::pre;
};

// Pointers into one worker's scratch. Rows of keys are `keys` long (a multiple of a vector, zeros behind key_dim).
template <class R>
struct chunk {
  index keys = 0, columns = 0;
  int tokens = 0;
  R* readers = nullptr;   // [erase readers: tokens][keys], then [q: tokens][keys]
  R* writers = nullptr;   // [k: tokens][keys], then [p: tokens][keys]
  R* alpha = nullptr;     // per channel [tokens][keys], else [tokens]: decays exp(g)
  R* gamma = nullptr;     // [keys]: decay over the whole chunk
  R* z = nullptr;         // [tokens][columns]
  R* bonus = nullptr;     // [tokens]: q . (u k), for the exclusive read
  R* pairs_q = nullptr;   // [writers][tokens][tokens]: P
  R* pairs_c = nullptr;   // [writers][tokens][tokens]: T
  R* denominator = nullptr;  // [tokens], with a normaliser
  R* carried = nullptr;   // [writers * tokens][keys]: scratch of the pair products
  R* gates = nullptr;     // [inputs][padded tokens]: scratch of the loader
  R* reads = nullptr;     // panel scratch: [readers][panel], values [writers][tokens][panel], outputs [tokens][panel]
  R* values = nullptr;
  R* y = nullptr;

  // Lays the chunk out in an arena (which may only be counting).
  template <axes A>
  void place(arena& room, const recurrence_tile& tile, index key_width, index column_width, index inputs) {
    using traits = chunk_traits<A>;
    constexpr index W = simd<R>::width;
    keys = key_width;
    columns = column_width;
    tokens = tile.tokens;
    const index rows = tokens, panel = tile.panel * W, padded = (rows + W - 1) / W * W;
    readers = room.take<R>((traits::erases ? 2 : 1) * rows * keys);
    writers = room.take<R>(traits::writers * rows * keys);
    alpha = room.take<R>(traits::channel ? rows * keys : padded);
    gamma = room.take<R>(keys);
    z = room.take<R>(rows * columns);
    bonus = room.take<R>(rows);
    pairs_q = room.take<R>(traits::writers * rows * rows);
    pairs_c = room.take<R>(traits::writers * rows * rows);
    denominator = room.take<R>(rows);
    carried = room.take<R>(traits::channel ? traits::writers * rows * keys : 0);
    gates = room.take<R>(inputs * padded);
    reads = room.take<R>(2 * rows * panel);
    values = room.take<R>(2 * rows * panel);
    y = room.take<R>(rows * panel);
  }
};

namespace detail {

// The products of one writer row s with the readers of Block tokens from t0. Skip: tokens of the block before s + 1, or all.
template <axes A, int Tokens, int Block, int Skip, bool Diagonal, class R>
WEFT_INLINE void pair_row(const chunk<R>& c, index keys, int t0, int s, int writer) {
  using traits = chunk_traits<A>;
  constexpr int W = simd<R>::width;
  // On the diagonal block token Skip is s itself: nothing lies between it and its own reader.
  const R* q = c.readers + (traits::erases ? Tokens : 0) * keys + t0 * keys;
  const R* e = c.readers + t0 * keys;
  const R* fresh = c.writers + (writer * Tokens + s) * keys;
  R* kept = c.carried + (writer * Tokens + s) * keys;
  const R* alpha = c.alpha + t0 * keys;
  simd<R> sum_q[Block], sum_c[Block];
  WEFT_UNROLL for (int t = 0; t < Block; ++t) sum_q[t] = sum_c[t] = simd<R>(R(0));
  for (index i = 0; i < keys; i += W) {
    simd<R> w = simd<R>::load((Diagonal || !traits::channel ? fresh : kept) + i);
    WEFT_UNROLL for (int t = Skip; t < Block; ++t) {
      const bool later = !Diagonal || t > Skip;
      if constexpr (traits::erases && traits::pre)
        if (later) sum_c[t] = fma(simd<R>::load(e + t * keys + i), w, sum_c[t]);
      if constexpr (traits::exclusive)
        if (later) sum_q[t] = fma(simd<R>::load(q + t * keys + i), w, sum_q[t]);
      if constexpr (traits::channel)
        if (later) w *= simd<R>::load(alpha + t * keys + i);
      if constexpr (!traits::exclusive) sum_q[t] = fma(simd<R>::load(q + t * keys + i), w, sum_q[t]);
      if constexpr (traits::erases && !traits::pre)
        if (later) sum_c[t] = fma(simd<R>::load(e + t * keys + i), w, sum_c[t]);
    }
    if constexpr (traits::channel) w.store(kept + i);
  }
  constexpr int room = Block > W ? Block : W;
  R sums[room];
  lane_sums<Block>(sum_q, sums);
  WEFT_UNROLL for (int t = Skip; t < Block; ++t) c.pairs_q[(writer * Tokens + t0 + t) * Tokens + s] = sums[t];
  if constexpr (traits::erases) {
    lane_sums<Block>(sum_c, sums);
    WEFT_UNROLL for (int t = Skip; t < Block; ++t) c.pairs_c[(writer * Tokens + t0 + t) * Tokens + s] = sums[t];
  }
}

template <axes A, int Tokens, int Block, class R, int... Skip>
WEFT_INLINE void pair_diagonal(const chunk<R>& c, index keys, int t0, int writer, std::integer_sequence<int, Skip...>) {
  (pair_row<A, Tokens, Block, Skip, true>(c, keys, t0, t0 + Skip, writer), ...);
}

// P and T without scalar decays, which follow in scale(). Triangular: a NaN of a later token cannot reach an earlier one.
template <axes A, int Tokens, int Key, class R>
[[gnu::noinline]] void pair_products(const chunk<R>& c) {
  constexpr int Block = Tokens % 8 == 0 && simd<R>::width >= 16 ? 8 : 4;
  static_assert(Tokens % Block == 0, "weft: a chunk is a whole number of blocks");
  const width_of<Key> keys{c.keys};
  for (int writer = 0; writer < chunk_traits<A>::writers; ++writer)
    for (int b = 0; b < Tokens; b += Block) {
      for (int s = 0; s < b; ++s) pair_row<A, Tokens, Block, 0, false>(c, keys, b, s, writer);
      pair_diagonal<A, Tokens, Block>(c, keys, b, writer, std::make_integer_sequence<int, Block>{});
    }
  if constexpr (chunk_traits<A>::exclusive)
    for (int t = 0; t < Tokens; ++t) c.pairs_q[t * Tokens + t] = c.bonus[t];
}

template <class R>
WEFT_INLINE void scale_row(R* row, simd<R> by, index keys) {
  for (index i = 0; i < keys; i += simd<R>::width) (simd<R>::load(row + i) * by).store(row + i);
}

template <axes A, int Tokens, int Key, class R>
WEFT_INLINE void scale_by_channel(const chunk<R>& c) {
  using traits = chunk_traits<A>;
  const width_of<Key> keys{c.keys};
  R* const q = c.readers + (traits::erases ? Tokens : 0) * keys;
  const auto times = [](R* p, simd<R> f) { (simd<R>::load(p) * f).store(p); };
  for (index i = 0; i < keys; i += simd<R>::width) {
    simd<R> head(R(1));
    for (int t = 0; t < Tokens; ++t) {
      const index at = t * keys + i;
      if constexpr (traits::erases && traits::pre) times(c.readers + at, head);
      if constexpr (traits::exclusive) times(q + at, head);
      head *= simd<R>::load(c.alpha + at);
      if constexpr (!traits::exclusive) times(q + at, head);
      if constexpr (traits::erases && !traits::pre) times(c.readers + at, head);
    }
    head.store(c.gamma + i);
    simd<R> tail(R(1));
    for (int s = Tokens - 1; s >= 0; --s) {
      const index at = s * keys + i;
      times(c.writers + at, tail);
      if constexpr (traits::writers == 2) times(c.writers + Tokens * keys + at, tail);
      tail *= simd<R>::load(c.alpha + at);
    }
  }
}

template <axes A, int Tokens, int Key, class R>
WEFT_INLINE void scale_by_token(const chunk<R>& c) {
  using traits = chunk_traits<A>;
  const width_of<Key> keys{c.keys};
  R* const q = c.readers + (traits::erases ? Tokens : 0) * keys;
  R head = 1;
  for (int t = 0; t < Tokens; ++t) {
    const R before = head;
    head *= c.alpha[t];
    scale_row<R>(q + t * keys, traits::exclusive ? before : head, keys);
    if constexpr (traits::erases) scale_row<R>(c.readers + t * keys, traits::pre ? before : head, keys);
  }
  std::fill_n(c.gamma, keys, head);
  R tail = 1;
  for (int s = Tokens - 1; s >= 0; --s) {
    for (int w = 0; w < traits::writers; ++w) scale_row<R>(c.writers + (w * Tokens + s) * keys, tail, keys);
    tail *= c.alpha[s];
    R between = 1;  // the decays of tokens s + 1 .. t
    for (int t = s + 1; t < Tokens; ++t) {
      const R before = between;
      between *= c.alpha[t];
      for (int w = 0; w < traits::writers; ++w) {
        c.pairs_q[(w * Tokens + t) * Tokens + s] *= traits::exclusive ? before : between;
        if constexpr (traits::erases) c.pairs_c[(w * Tokens + t) * Tokens + s] *= traits::pre ? before : between;
      }
    }
  }
}

// Puts the decays since the chunk's start on the readers, those to its end on the writers.
template <axes A, int Tokens, int Key, class R>
[[gnu::noinline]] void scale(const chunk<R>& c) {
  if constexpr (chunk_traits<A>::channel) scale_by_channel<A, Tokens, Key>(c);
  else if constexpr (chunk_traits<A>::scalar) scale_by_token<A, Tokens, Key>(c);
  else std::fill_n(c.gamma, c.keys, R(1));
}

// The normaliser is one more value column of ones, so it needs no panel: q_t . n from the same readers, pairs and writers.
template <class R>
void normalise(const chunk<R>& c, R* norm, int n, R eps) {
  constexpr int W = simd<R>::width;
  for (int t = 0; t < n; ++t) {
    simd<R> sum(R(0));
    for (index i = 0; i < c.keys; i += W) sum = fma(simd<R>::load(c.readers + t * c.keys + i), simd<R>::load(norm + i), sum);
    R d = lane_sum(sum);
    for (int s = 0; s <= t; ++s) d += c.pairs_q[t * c.tokens + s];
    c.denominator[t] = d + eps;
  }
  for (index i = 0; i < c.keys; i += W) {
    simd<R> sum = simd<R>::load(norm + i) * simd<R>::load(c.gamma + i);
    for (int s = 0; s < n; ++s) sum += simd<R>::load(c.writers + s * c.keys + i);
    sum.store(norm + i);
  }
}

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
