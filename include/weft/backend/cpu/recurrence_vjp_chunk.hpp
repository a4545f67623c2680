// The gradients of one chunk of a recurrence, in canonical terms. With the chunk's readers, writers, P and T as in
// recurrence_chunk.hpp, V the values of its writers (Z; the solved ones where it erases) and L the gradient of the state
// after it:
//
//   D = P^T dO + W L                for each writer W with its decays to the chunk's end
//   class L:  dZ = D        class D:  (I + T)^T Y = D, dZ = Y        class R:  (I + T_p)^T Y = D_p, dZ = D_k - T_k^T Y
//   dP = dO V^T,  dT = -Y V^T       lower triangles
//   readers: dq = dO S_0^T + dP k,  dc = -Y S_0^T + dT k             writers: dk = V L^T + dP^T q + dT^T c
//   L before the chunk = gamma L + q^T dO - c^T Y                    (decays left out)
//
// Residual first: no inverse, and no gradient of one, is formed. The decay's gradient is summed from parts that do not cancel:
// every product of decays that holds alpha_i is added once, and nothing is subtracted.
#pragma once
#include "recurrence_panel.hpp"

namespace weft {
inline namespace WEFT_ISA {

// The register blocks of the products, whose operands are whole rows of keys or values, and the chunk of the backward pass.
template <class R>
constexpr recurrence_tile vjp_tile() {
  if constexpr (simd<R>::width * sizeof(R) == 64)
    return {.tokens = 16, .panel = 2, .read_rows = 8, .read_vectors = 2, .update_keys = 8, .update_vectors = 2, .block = 8, .solve_vectors = 2};
  else
    return {.tokens = 16, .panel = 2, .read_rows = 4, .read_vectors = 2, .update_keys = 4, .update_vectors = 2, .block = 4, .solve_vectors = 2};
}

// A chunk of the forward pass, kept for the backward pass over the same tokens. Pointers into one worker's scratch.
template <class R>
struct kept_chunk {
  chunk<R> c;
  R* readers = nullptr;  // as c.readers and c.writers, without decays
  R* writers = nullptr;
  R* values = nullptr;   // [writers][tokens][columns]: z, and the solved ones where the class erases
  R* state = nullptr;    // [columns][keys]: the transposed state before the chunk

  template <axes A>
  void place(arena& room, index keys, index columns, index inputs) {
    using traits = chunk_traits<A>;
    constexpr recurrence_tile X = vjp_tile<R>();
    c.template place<A>(room, X, keys, columns, inputs);
    readers = room.take<R>((traits::erases ? 2 : 1) * X.tokens * keys);
    writers = room.take<R>(traits::writers * X.tokens * keys);
    values = room.take<R>(traits::writers * X.tokens * columns);
    if constexpr (A.erase != erase::tied) c.z = values;
    state = room.take<R>(columns * keys);
  }
};

// The gradients of one chunk's canonical rows, and what they are made from.
template <class R>
struct chunk_gradients {
  R* errors = nullptr;    // [-Y: tokens][columns] where the class erases, then [dO: tokens][columns]
  R* carried = nullptr;   // [writers][tokens][columns]: W L
  R* z = nullptr;         // [tokens][columns]
  R* readers = nullptr;   // [c: tokens][keys], then [q: tokens][keys], as in the chunk
  R* writers = nullptr;   // [k: tokens][keys], then [p: tokens][keys]
  R* decay = nullptr;     // [tokens][keys] of a decay per channel, else [tokens]: by g
  R* bonus = nullptr;     // [tokens]: by q . (u k)
  R* pairs_q = nullptr;   // [writers][tokens][tokens]: dP
  R* pairs_c = nullptr;   // [writers][tokens][tokens]: dT
  R* by_reader = nullptr; // [2 tokens][writers tokens], by_writer its transpose: dP and dT with their decays, for products
  R* by_writer = nullptr;
  R* overlap = nullptr;   // [keys]: gamma times the row sums of L S_0
  R* transposed = nullptr;  // [columns][keys]: L^T
  R* units = nullptr;     // [inputs][keys]: by unit keys, before their length

  template <axes A>
  void place(arena& room, index keys, index columns, index inputs) {
    using traits = chunk_traits<A>;
    constexpr index M = vjp_tile<R>().tokens, readers_count = traits::erases ? 2 : 1;
    errors = room.take<R>(readers_count * M * columns);
    carried = room.take<R>(traits::writers * M * columns);
    z = room.take<R>(M * columns);
    readers = room.take<R>(readers_count * M * keys);
    writers = room.take<R>(traits::writers * M * keys);
    decay = room.take<R>(traits::channel ? M * keys : M);
    bonus = room.take<R>(M);
    pairs_q = room.take<R>(traits::writers * M * M);
    pairs_c = room.take<R>(traits::writers * M * M);
    by_reader = room.take<R>(readers_count * traits::writers * M * M);
    by_writer = room.take<R>(readers_count * traits::writers * M * M);
    overlap = room.take<R>(keys);
    transposed = room.take<R>(columns * keys);
    units = room.take<R>(inputs * keys);
  }
};

namespace detail {

// acc[s] += sum over tokens t of the rows y_t weighted by m[t][s]; from the block's own tokens only those that reach s.
template <int Tokens, int Block, int Vectors, bool Strict, class R>
WEFT_INLINE void add_later_rows(simd<R> (&acc)[Block][Vectors], const R* m, const R* y, index ldy, int block) {
  constexpr int W = simd<R>::width;
  for (int t = block + Block; t < Tokens; ++t) {
    simd<R> row[Vectors];
    WEFT_UNROLL for (int x = 0; x < Vectors; ++x) row[x] = simd<R>::load(y + t * ldy + x * W);
    WEFT_UNROLL for (int s = 0; s < Block; ++s) {
      const simd<R> f(m[t * Tokens + block + s]);
      WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[s][x] = fma(f, row[x], acc[s][x]);
    }
  }
  WEFT_UNROLL for (int t = Strict ? 1 : 0; t < Block; ++t) {
    simd<R> row[Vectors];
    WEFT_UNROLL for (int x = 0; x < Vectors; ++x) row[x] = simd<R>::load(y + (block + t) * ldy + x * W);
    WEFT_UNROLL for (int s = 0; s < t + (Strict ? 0 : 1); ++s) {
      const simd<R> f(m[(block + t) * Tokens + block + s]);
      WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[s][x] = fma(f, row[x], acc[s][x]);
    }
  }
}

// -Y and dZ of Vectors columns, by substitution from the last token to the first.
template <axes A, int Vectors, class R>
WEFT_INLINE void substitute_back(const chunk<R>& c, const chunk_gradients<R>& d, index column, index ld) {
  using traits = chunk_traits<A>;
  constexpr recurrence_tile X = vjp_tile<R>();
  constexpr int M = X.tokens, Block = X.block, W = simd<R>::width, last = traits::writers - 1;
  R* const y = d.errors + column;
  const R* const o = d.errors + (traits::erases ? M : 0) * ld + column;
  R* const z = d.z + column;
  for (int b = M - Block; b >= 0; b -= Block) {
    simd<R> acc[Block][Vectors];
    const auto start = [&](int writer) __attribute__((always_inline)) {
      const R* const from = d.carried + writer * M * ld + column;
      WEFT_UNROLL for (int s = 0; s < Block; ++s)
        WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[s][x] = simd<R>::load(from + (b + s) * ld + x * W);
      add_later_rows<M, Block, Vectors, false>(acc, c.pairs_q + writer * M * M, o, ld, b);
    };
    const auto finish = [&]() __attribute__((always_inline)) {
      WEFT_UNROLL for (int s = 0; s < Block; ++s)
        WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[s][x].store(z + (b + s) * ld + x * W);
    };
    start(last);
    if constexpr (traits::erases) {
      const R* const t_pairs = c.pairs_c + last * M * M;
      for (int t = b + Block; t < M; ++t) {
        simd<R> row[Vectors];
        WEFT_UNROLL for (int x = 0; x < Vectors; ++x) row[x] = simd<R>::load(y + t * ld + x * W);
        WEFT_UNROLL for (int s = 0; s < Block; ++s) {
          const simd<R> f(t_pairs[t * M + b + s]);
          WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[s][x] = fma(f, row[x], acc[s][x]);
        }
      }
      WEFT_UNROLL for (int t = Block - 1; t >= 0; --t) {
        WEFT_UNROLL for (int x = 0; x < Vectors; ++x) (-acc[t][x]).store(y + (b + t) * ld + x * W);
        WEFT_UNROLL for (int s = 0; s < t; ++s) {
          const simd<R> f(t_pairs[(b + t) * M + b + s]);
          WEFT_UNROLL for (int x = 0; x < Vectors; ++x) acc[s][x] = fnma(f, acc[t][x], acc[s][x]);
        }
      }
      if constexpr (traits::writers == 2) {
        start(0);
        add_later_rows<M, Block, Vectors, true>(acc, c.pairs_c, y, ld, b);
      }
    }
    finish();
  }
}

// Puts the decays on the gradients that came from the states at the chunk's ends, and starts the decay's gradient with what
// they hold: S_0's part of q and c for every decay before them, L's part of k and p for every one after.
template <axes A, class R>
[[gnu::noinline]] void scale_ends_by_channel(const kept_chunk<R>& kept, const chunk_gradients<R>& d) {
  using traits = chunk_traits<A>;
  using V = simd<R>;
  constexpr int M = vjp_tile<R>().tokens;
  const chunk<R>& c = kept.c;
  const index keys = c.keys;
  const index q = (traits::erases ? M : 0) * keys;
  const auto scaled = [](R* row, V by) {
    const V x = V::load(row) * by;
    x.store(row);
    return x;
  };
  for (index i = 0; i < keys; i += V::width) {
    V part[M], head(R(1));  // of S_0: what the readers of token t say to all decays up to it
    for (int t = 0; t < M; ++t) part[t] = V(R(0));
    for (int t = 0; t < M; ++t) {
      const index at = t * keys + i;
      // A reader before its token's decay speaks to the decays up to the last token's.
      const auto read = [&](index row, bool before) {
        const V x = scaled(d.readers + row + at, head) * V::load(kept.readers + row + at);
        if (!before) part[t] += x;
        else if (t > 0) part[t - 1] += x;
      };
      if constexpr (traits::exclusive) read(q, true);
      if constexpr (traits::erases && traits::pre) read(0, true);
      head *= V::load(c.alpha + at);
      if constexpr (!traits::exclusive) read(q, false);
      if constexpr (traits::erases && !traits::pre) read(0, false);
    }
    V sum = V::load(d.overlap + i);
    for (int t = M - 1; t >= 0; --t) {
      sum += part[t];
      sum.store(d.decay + t * keys + i);
    }
    V tail(R(1));
    for (int s = M - 1; s >= 0; --s) {
      const index at = s * keys + i;
      part[s] = V(R(0));
      for (int w = 0; w < traits::writers; ++w) {
        const index row = w * M * keys + at;
        part[s] += scaled(d.writers + row, tail) * V::load(kept.writers + row);
      }
      tail *= V::load(c.alpha + at);
    }
    V before(R(0));
    for (int t = 0; t < M; ++t) {
      (V::load(d.decay + t * keys + i) + before).store(d.decay + t * keys + i);
      before += part[t];
    }
  }
}

// What pairs of tokens add to the gradients of readers, writers and decays. Each writer is carried through the tokens after it
// and back: first its readers' gradients, then, the readers' own carried back to it, its own.
template <axes A, class R>
[[gnu::noinline]] void add_pairs_by_channel(const kept_chunk<R>& kept, const chunk_gradients<R>& d) {
  using traits = chunk_traits<A>;
  using V = simd<R>;
  constexpr int M = vjp_tile<R>().tokens;
  const chunk<R>& c = kept.c;
  const index keys = c.keys, q = (traits::erases ? M : 0) * keys;
  for (index i = 0; i < keys; i += V::width) {
    V alpha[M], reads_q[M], reads_c[M], dq[M], dc[M], decay[M], carried[M];
    for (int t = 0; t < M; ++t) {
      const index at = t * keys + i;
      alpha[t] = V::load(c.alpha + at);
      reads_q[t] = V::load(kept.readers + q + at);
      dq[t] = V::load(d.readers + q + at);
      decay[t] = V::load(d.decay + at);
      if constexpr (traits::erases) {
        reads_c[t] = V::load(kept.readers + at);
        dc[t] = V::load(d.readers + at);
      }
    }
    for (int w = 0; w < traits::writers; ++w) {
      const R* const pq = d.pairs_q + w * M * M;
      const R* const pc = d.pairs_c + w * M * M;
      for (int s = 0; s < M; ++s) {
        const index at = (w * M + s) * keys + i;
        V writer = V::load(kept.writers + at), sum(R(0));
        if constexpr (!traits::exclusive) dq[s] = fma(V(pq[s * M + s]), writer, dq[s]);
        for (int t = s + 1; t < M; ++t) {
          carried[t] = writer;
          if constexpr (traits::exclusive) dq[t] = fma(V(pq[t * M + s]), writer, dq[t]);
          if constexpr (traits::erases && traits::pre) dc[t] = fma(V(pc[t * M + s]), writer, dc[t]);
          writer *= alpha[t];
          if constexpr (!traits::exclusive) dq[t] = fma(V(pq[t * M + s]), writer, dq[t]);
          if constexpr (traits::erases && !traits::pre) dc[t] = fma(V(pc[t * M + s]), writer, dc[t]);
        }
        for (int t = M - 1; t > s; --t) {
          if constexpr (!traits::exclusive) sum = fma(V(pq[t * M + s]), reads_q[t], sum);
          if constexpr (traits::erases && !traits::pre) sum = fma(V(pc[t * M + s]), reads_c[t], sum);
          sum *= alpha[t];
          decay[t] = fma(carried[t], sum, decay[t]);
          if constexpr (traits::exclusive) sum = fma(V(pq[t * M + s]), reads_q[t], sum);
          if constexpr (traits::erases && traits::pre) sum = fma(V(pc[t * M + s]), reads_c[t], sum);
        }
        if constexpr (!traits::exclusive) sum = fma(V(pq[s * M + s]), reads_q[s], sum);
        (V::load(d.writers + at) + sum).store(d.writers + at);
      }
    }
    for (int t = 0; t < M; ++t) {
      const index at = t * keys + i;
      dq[t].store(d.readers + q + at);
      decay[t].store(d.decay + at);
      if constexpr (traits::erases) dc[t].store(d.readers + at);
    }
  }
}

// row *= by, and returns its product with the row it is the gradient of.
template <class R>
WEFT_INLINE R scale_and_dot(R* row, R by, const R* with, index keys) {
  using V = simd<R>;
  V sum(R(0));
  for (index i = 0; i < keys; i += V::width) {
    const V x = V::load(row + i) * V(by);
    x.store(row + i);
    sum = fma(x, V::load(with + i), sum);
  }
  return lane_sum(sum);
}

// Both steps for one decay a token, or none: the pairs are products of small matrices.
template <axes A, class R>
[[gnu::noinline]] void add_pairs_by_token(const kept_chunk<R>& kept, const chunk_gradients<R>& d) {
  using traits = chunk_traits<A>;
  constexpr recurrence_tile X = vjp_tile<R>();
  constexpr int M = X.tokens, readers = traits::erases ? 2 : 1, writers = traits::writers, W = simd<R>::width;
  constexpr int q_row = (readers - 1) * M;
  const chunk<R>& c = kept.c;
  const index keys = c.keys;

  if constexpr (traits::scalar) {
    R part[M] = {}, after[M] = {}, head = 1, tail = 1, overlap = 0;
    for (index i = 0; i < keys; ++i) overlap += d.overlap[i];
    for (int t = 0; t < M; ++t) {
      const R before = head;
      head *= c.alpha[t];
      const auto read = [&](int row, bool early) {
        const R x = scale_and_dot(d.readers + (row + t) * keys, early ? before : head, kept.readers + (row + t) * keys, keys);
        if (!early) part[t] += x;
        else if (t > 0) part[t - 1] += x;
      };
      read(q_row, traits::exclusive);
      if constexpr (traits::erases) read(0, traits::pre);
    }
    for (int s = M - 1; s >= 0; --s) {
      for (int w = 0; w < writers; ++w) after[s] += scale_and_dot(d.writers + (w * M + s) * keys, tail, kept.writers + (w * M + s) * keys, keys);
      tail *= c.alpha[s];
    }
    // Pairs s < t hold the decays s + 1 .. t, or .. t - 1 for readers before their token's decay.
    R pairs[M] = {};  // by the decay of token i, summed over the pairs around it
    for (int w = 0; w < writers; ++w)
      for (int s = 0; s < M; ++s) {
        R sum = 0;
        for (int t = M - 1; t > s; --t) {
          const int at = (w * M + t) * M + s;
          const R of_q = d.pairs_q[at] * c.pairs_q[at];
          R of_c = 0;
          if constexpr (traits::erases) of_c = d.pairs_c[at] * c.pairs_c[at];
          if constexpr (!traits::exclusive) sum += of_q;
          if constexpr (!traits::pre) sum += of_c;
          pairs[t] += sum;
          if constexpr (traits::exclusive) sum += of_q;
          if constexpr (traits::pre) sum += of_c;
        }
      }
    R sum = overlap;
    for (int t = M - 1; t >= 0; --t) d.decay[t] = (sum += part[t]) + pairs[t];
    R before = 0;
    for (int t = 0; t < M; ++t) {
      d.decay[t] += before;
      before += after[t];
    }
  }

  // dP and dT with the decays between their tokens, as one matrix each way.
  std::fill_n(d.by_reader, readers * writers * M * M, R(0));
  std::fill_n(d.by_writer, readers * writers * M * M, R(0));
  for (int w = 0; w < writers; ++w)
    for (int s = 0; s < M; ++s) {
      const int writer = w * M + s;
      const auto put = [&](int row, R x) {
        d.by_reader[row * writers * M + writer] = x;
        d.by_writer[writer * readers * M + row] = x;
      };
      if constexpr (!traits::exclusive) put(q_row + s, d.pairs_q[writer * M + s]);
      R between = 1;
      for (int t = s + 1; t < M; ++t) {
        const R before = between;
        if constexpr (traits::scalar) between *= c.alpha[t];
        const int at = (w * M + t) * M + s;
        put(q_row + t, d.pairs_q[at] * (traits::exclusive ? before : between));
        if constexpr (traits::erases) put(t, d.pairs_c[at] * (traits::pre ? before : between));
      }
    }
  tile::product<X.read_rows, X.read_vectors, true>(d.by_reader, writers * M, readers * M, kept.writers, keys, d.readers, keys, keys / W, writers * M);
  tile::product<X.read_rows, X.read_vectors, true>(d.by_writer, readers * M, writers * M, kept.readers, keys, d.writers, keys, keys / W, readers * M);
}

// gamma times the row sums of L S_0, from the transposed matrices.
template <class R>
[[gnu::noinline]] void overlap_of(const R* gradient, const R* state, const R* gamma, index keys, index columns, R* out) {
  using V = simd<R>;
  for (index i = 0; i < keys; i += V::width) {
    V even(R(0)), odd(R(0));
    for (index j = 0; j < columns; j += 2) {  // columns are whole vectors: an even number
      even = fma(V::load(gradient + j * keys + i), V::load(state + j * keys + i), even);
      odd = fma(V::load(gradient + (j + 1) * keys + i), V::load(state + (j + 1) * keys + i), odd);
    }
    ((even + odd) * V::load(gamma + i)).store(out + i);
  }
}

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
