// One token of a recurrence. Without an erase one pass over the state does it all. With one, S^T q comes out of the same
// pass as S^T c, since the token's own write adds only (q . k) times a value to it; the second pass finds its columns in L1.
#pragma once
#include "recurrence_load.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace detail {

// What a token's keys give to every column: products of its reader with its writers.
template <axes A, class R>
struct step_dots {
  R qk = 0, qp = 0;

  step_dots(const chunk<R>& c, int row) {
    using traits = chunk_traits<A>;
    constexpr int W = simd<R>::width;
    if constexpr (traits::exclusive) {
      qk = c.bonus[row];
      return;
    }
    const R* q = c.readers + ((traits::erases ? c.tokens : 0) + row) * c.keys;
    const R* k = c.writers + row * c.keys;
    simd<R> with_k(R(0)), with_p(R(0));
    for (index i = 0; i < c.keys; i += W) {
      with_k = fma(simd<R>::load(q + i), simd<R>::load(k + i), with_k);
      if constexpr (traits::writers == 2) with_p = fma(simd<R>::load(q + i), simd<R>::load(k + c.tokens * c.keys + i), with_p);
    }
    qk = lane_sum(with_k);
    if constexpr (traits::writers == 2) qp = lane_sum(with_p);
  }
};

// Puts the token's decay on the readers of an erasing token, so that its first pass over the state only reads.
template <axes A, class R>
WEFT_INLINE void decay_readers(const chunk<R>& c, int row) {
  using traits = chunk_traits<A>;
  constexpr int W = simd<R>::width;
  if constexpr (traits::erases && (traits::channel || traits::scalar)) {
    R* const q = c.readers + ((traits::erases ? c.tokens : 0) + row) * c.keys;
    R* const e = c.readers + row * c.keys;
    for (index i = 0; i < c.keys; i += W) {
      const simd<R> alpha = traits::channel ? simd<R>::load(c.alpha + row * c.keys + i) : simd<R>(c.alpha[row]);
      if constexpr (!traits::exclusive) (simd<R>::load(q + i) * alpha).store(q + i);
      if constexpr (traits::erases && !traits::pre) (simd<R>::load(e + i) * alpha).store(e + i);
    }
  }
}

// Vectors columns of the state at s (rows ld apart), `count` of the last vector's lanes real (0: all).
template <axes A, int Vectors, class R, class S>
WEFT_INLINE void step_columns(const chunk<R>& c, int row, const step_dots<A, R>& dots, S* s, index ld, index key_dim, index column, index count, R* y) {
  using traits = chunk_traits<A>;
  using V = simd<R>;
  constexpr int W = V::width;
  const R* const e = c.readers + row * c.keys;
  const R* const q = c.readers + ((traits::erases ? c.tokens : 0) + row) * c.keys;
  const R* const k = c.writers + row * c.keys;
  const R* const p = k + c.tokens * c.keys;
  const R* const alpha = traits::channel ? c.alpha + row * c.keys : c.alpha + row;
  const auto get = [count](const S* from, int x) { return count && x == Vectors - 1 ? weft::load(from + x * W, count) : weft::load(from + x * W); };
  const auto put = [count](S* to, int x, V v) { count && x == Vectors - 1 ? weft::store(to + x * W, v, count) : weft::store(to + x * W, v); };
  const auto decay_of = [alpha](index i) { return V(alpha[traits::channel ? i : 0]); };

  V read_q[Vectors], read_c[Vectors], value[Vectors];
  WEFT_UNROLL for (int x = 0; x < Vectors; ++x) read_q[x] = read_c[x] = V(R(0));
  if constexpr (!traits::erases) {  // what is written is known before the state is read: one pass
    WEFT_UNROLL for (int x = 0; x < Vectors; ++x) value[x] = V::load(c.z + row * c.columns + column + x * W);
    for (index i = 0; i < key_dim; ++i) {
      const V qi(q[i]), ki(k[i]);
      WEFT_UNROLL for (int x = 0; x < Vectors; ++x) {
        const V before = get(s + i * ld, x);
        V after = before;
        if constexpr (traits::channel || traits::scalar) after *= decay_of(i);
        after = fma(ki, value[x], after);
        read_q[x] = fma(qi, traits::exclusive ? before : after, read_q[x]);
        put(s + i * ld, x, after);
      }
    }
    WEFT_UNROLL for (int x = 0; x < Vectors; ++x)
      (traits::exclusive ? fma(V(dots.qk), value[x], read_q[x]) : read_q[x]).store(y + column + x * W);
    return;
  }
  for (index i = 0; i < key_dim; ++i) {
    const V qi(q[i]), ei(e[i]);
    WEFT_UNROLL for (int x = 0; x < Vectors; ++x) {
      const V before = get(s + i * ld, x);
      read_c[x] = fma(ei, before, read_c[x]);
      read_q[x] = fma(qi, before, read_q[x]);
    }
  }
  WEFT_UNROLL for (int x = 0; x < Vectors; ++x) {
    value[x] = V::load(c.z + row * c.columns + column + x * W);
    if constexpr (traits::writers == 1) value[x] -= read_c[x];
    V o = fma(V(dots.qk), value[x], read_q[x]);
    if constexpr (traits::writers == 2) o = fnma(V(dots.qp), read_c[x], o);
    o.store(y + column + x * W);
  }
  for (index i = 0; i < key_dim; ++i) {
    const V ki(k[i]), pi(traits::writers == 2 ? p[i] : R(0));
    WEFT_UNROLL for (int x = 0; x < Vectors; ++x) {
      V after = get(s + i * ld, x);
      if constexpr (traits::channel || traits::scalar) after *= decay_of(i);
      after = fma(ki, value[x], after);
      if constexpr (traits::writers == 2) after = fnma(pi, read_c[x], after);
      put(s + i * ld, x, after);
    }
  }
}

// The rows of one token (its micro-steps, mostly one) of one head.
template <axes A, class R, class S>
void step_head(const chunk<R>& c, int rows, index key_dim, index value_dim, S* s, R* y) {
  constexpr int W = simd<R>::width, Vectors = 4;
  for (int row = 0; row < rows; ++row) {
    const step_dots<A, R> dots(c, row);
    decay_readers<A>(c, row);
    index j = 0;
    for (; j + Vectors * W <= value_dim; j += Vectors * W) step_columns<A, Vectors>(c, row, dots, s + j, value_dim, key_dim, j, 0, y);
    for (; j + W <= value_dim; j += W) step_columns<A, 1>(c, row, dots, s + j, value_dim, key_dim, j, 0, y);
    if (j < value_dim) step_columns<A, 1>(c, row, dots, s + j, value_dim, key_dim, j, value_dim - j, y);
  }
}

// q . n of the token, after its key joined n.
template <axes A, class R, class S>
void step_normaliser(const chunk<R>& c, S* norm, index key_dim, R epsilon) {
  R sum = epsilon;
  for (index i = 0; i < key_dim; ++i) {
    const R decay = chunk_traits<A>::channel ? c.alpha[i] : chunk_traits<A>::scalar ? c.alpha[0] : R(1);
    const R n = decay * static_cast<R>(norm[i]) + c.writers[i];
    norm[i] = static_cast<S>(n);
    sum += c.readers[i] * n;
  }
  c.denominator[0] = sum;
}

}  // namespace detail

// One token for every sequence; like scan_chunks, shared by all policies of the same axes.
template <axes A, class R, class S>
[[gnu::noinline]] void step_tokens(cpu& executor, const token_source<R>& source, const recurrence_extents& x, recurrent_state<S>& state, R epsilon, index inputs) {
  constexpr index W = simd<R>::width;
  const auto round_up = [](index n) { return (n + W - 1) / W * W; };
  recurrence_tile tile = tile_for<R>(A.erase, 0);
  tile.tokens = x.micro;
  const auto place = [&](arena& room, R*& y) {
    chunk<R> c;
    c.template place<A>(room, tile, round_up(x.key_dim), round_up(x.value_dim), inputs);
    y = room.template take<R>(round_up(x.value_dim));
    return c;
  };
  arena count;
  R* unused = nullptr;
  place(count, unused);
  executor.reserve(count.used());
  executor.parallel_for(x.batch * x.value_heads, [&](index task, int worker) {
    const index b = task / x.value_heads, h = task % x.value_heads;
    arena room(executor.scratch(worker));
    R* y = nullptr;
    const chunk<R> c = place(room, y);
    source.load(source.self, c, b, h, 0, x.micro, 0, round_up(x.value_dim));
    if constexpr (A.normalised) detail::step_normaliser<A>(c, state.normaliser.data() + task * x.key_dim, x.key_dim, epsilon);
    detail::step_head<A>(c, x.micro, x.key_dim, x.value_dim, state.matrix.data() + task * x.key_dim * x.value_dim, y);
    // Only the last micro-step's row is an output; its values lie in y whatever the row.
    source.store(source.self, c, y, 0, b, h, 0, x.micro, 0, round_up(x.value_dim));
  });
}

template <class P, class T, class S>
void run_step(cpu& executor, const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in, recurrent_state<S>& state,
              const typename recurrence<P, T, S>::outputs& out) {
  using R = accumulate_t<T>;
  const recurrence_extents x = check_recurrence(mixer, in, state, out, {});
  require(x.time == 1 || x.batch == 0, errc::shape, "step: expected inputs of one token (time 1), got ", x.time);
  const policy_source<P, T, S> policy(mixer, in, out, x);
  step_tokens<P::axes>(executor, policy.source(), x, state, static_cast<R>(mixer.normaliser_eps), static_cast<index>(input_count<P>));
}

}  // namespace WEFT_ISA
}  // namespace weft
