// The token form of a recurrence for every policy, width and storage type on any GPU since sm_80: the portable schedule,
// and the decode step. Columns of the state are independent: a block owns a slice of them and keeps it in registers while
// its tokens pass. Sums run in an order that depends on key_dim alone, so results do not depend on how work is split.
#pragma once
#include "ptx.hpp"
#include "recurrence_lanes.hpp"
#include "runtime.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// A thread owns `rows` keys of `vector` columns; a block has `groups` x `columns` threads and stages tokens in shared memory.
template <class R>
struct token_tile {
  static constexpr int rows = 16, vector = 16 / static_cast<int>(sizeof(R)), most_threads = 256, most_keys = most_threads * rows;
  int groups = 1;   // of keys: thread (group, column) owns keys 4 (group + groups j) + {0, 1, 2, 3}
  int columns = 8;  // of vectors; a power of two
  int staged = 8;   // tokens

  // Whole warps: 512 keys or fewer have slices of 8 vectors.
  static token_tile for_keys(index key_dim) {
    token_tile t;
    while (t.columns > 1 && key_dim > most_threads / t.columns * rows) t.columns /= 2;
    const int step = 32 / t.columns;
    t.groups = static_cast<int>((key_dim + rows * step - 1) / (rows * step)) * step;
    if (t.groups == 0) t.groups = step;
    return t;
  }
  __host__ __device__ int keys() const { return groups * rows; }
  __host__ __device__ int slice() const { return columns * vector; }
  __host__ __device__ int threads() const { return groups * columns; }
};

// Arrays of a staged token in shared memory, each `keys` long: reader, writer, and what the axes add.
template <axes A>
struct token_arrays {
  static constexpr bool erases = A.erase != erase::none, two = A.erase == erase::two_writers, channel = A.decay == decay::per_channel;
  static constexpr bool scalar = A.decay == decay::per_head || A.decay == decay::per_token, exclusive = A.read == read::exclusive_bonus;
  static constexpr int q = 0, k = 1, c = 2, p = c + erases, alpha = p + two, count = alpha + channel;
};

template <class P, class T, class S>
struct token_job {
  using R = accumulate_t<T>;
  inputs_of<P, T> in;
  P policy;
  extents<R> x;
  token_tile<R> tile;
  void* o;
  bool wide;  // o holds R, not T
  index o_stride[3];
  S* matrix;
  S* normaliser;
  const S* normaliser_start;
  R normaliser_eps;
  const index* offsets = nullptr;  // of packed sequences, or null
  index blocks_a_head = 1;

  // Shared numbers of one staged token: arrays, z of the slice, alpha and the products q.k, q.p, gates.
  __host__ __device__ int stride() const {
    const int n = token_arrays<P::axes>::count * tile.keys() + tile.slice() + 4 + static_cast<int>(input_count<P>);
    return (n + 3) / 4 * 4;
  }
  // Partial sums of S^T q, S^T c of a slice by key group, of two tokens in turn, and those of the normaliser.
  __host__ __device__ int partials() const { return 2 * tile.groups * (2 * tile.slice() + 4); }
  std::size_t shared_bytes() const { return sizeof(R) * static_cast<std::size_t>(tile.staged * stride() + partials()); }
};

template <class X, int N>
struct alignas(N * sizeof(X) > 16 ? 16 : N * sizeof(X)) pack {
  X v[N];
};

// `count` numbers from memory or to it; by one access where `whole`.
template <int N, class S, class R>
__device__ void load_columns(const S* p, bool whole, int count, R (&to)[N]) {
  if (whole) {
    const auto x = *reinterpret_cast<const pack<S, N>*>(p);
    for (int i = 0; i < N; ++i) to[i] = static_cast<R>(x.v[i]);
  } else {
    for (int i = 0; i < N; ++i) to[i] = i < count ? static_cast<R>(p[i]) : R(0);
  }
}
template <int N, class S, class R>
__device__ void store_columns(S* p, bool whole, int count, const R (&from)[N]) {
  if (whole) {
    pack<S, N> x;
    for (int i = 0; i < N; ++i) x.v[i] = static_cast<S>(from[i]);
    *reinterpret_cast<pack<S, N>*>(p) = x;
  } else {
    for (int i = 0; i < N; ++i)
      if (i < count) p[i] = static_cast<S>(from[i]);
  }
}

// One warp brings row r of a head into shared memory.
template <class P, class T, class S>
__device__ void stage_token(const token_job<P, T, S>& job, index b, index r, int head, int first_column, accumulate_t<T>* to) {
  using R = accumulate_t<T>;
  using has = token_arrays<P::axes>;
  const auto& x = job.x;
  const int lane = static_cast<int>(threadIdx.x % 32), keys = job.tile.keys();
  const row<P, T> at(job.in, x, b, r, head);
  const lanes_of<P, R> gates = at.gates(job.policy);
  R inverse[input_count<P>];
  at.inverse_lengths(x, inverse);
  const bool reads = !P::axes.micro_steps || r % x.micro == x.micro - 1, decays = !P::axes.micro_steps || r % x.micro == 0;
  R alpha = 1, qk = 0, qp = 0;
  if constexpr (has::scalar)
    if (decays) alpha = exp(job.policy.template key_side<R>(gates).g);
  for (int i = lane; i < keys; i += 32) {
    key_terms<R> side{};
    R a = alpha;
    if (i < x.key_dim) {
      lanes_of<P, R> numbers = at.template lanes<width::key_dim>(gates, i);
      for_each_member(numbers, [&](R& e, auto m) {
        if constexpr (row<P, T>::template is_unit<m>) e *= inverse[m];
      });
      side = job.policy.template key_side<R>(numbers);
      if constexpr (has::channel) a = decays ? exp(side.g) : R(1);
    }
    const R q = reads ? side.q * x.scale : R(0);
    qk += has::exclusive ? q * side.u * side.k : q * side.k;
    to[has::q * keys + i] = has::erases ? q * a : q;  // an erasing token reads the state before its decay
    to[has::k * keys + i] = side.k;
    if constexpr (has::erases) to[has::c * keys + i] = P::axes.timing == timing::post ? side.c * a : side.c;
    if constexpr (has::two) {
      to[has::p * keys + i] = side.p;
      qp += q * side.p;
    }
    if constexpr (has::channel) to[has::alpha * keys + i] = a;
  }
  for (int step = 16; step > 0; step /= 2) {
    qk += __shfl_xor_sync(~0u, qk, step);
    if constexpr (has::two) qp += __shfl_xor_sync(~0u, qp, step);
  }
  R* const z = to + has::count * keys;
  for (int j = lane; j < job.tile.slice(); j += 32) {
    const int column = first_column + j;
    z[j] = column < x.value_dim ? job.policy.template write<R>(at.template lanes<width::value_dim>(gates, column)) : R(0);
  }
  R* const rest = z + job.tile.slice();
  if (lane == 0) {
    rest[0] = alpha, rest[1] = qk, rest[2] = qp;
    for_each_member(gates, [&](const R& g, auto m) { rest[4 + static_cast<int>(m)] = g; });
  }
}

template <class P, class T, class S>
__global__ void __launch_bounds__(token_tile<accumulate_t<T>>::most_threads) token_scan(const __grid_constant__ token_job<P, T, S> job) {
  using R = accumulate_t<T>;
  using has = token_arrays<P::axes>;
  using tile = token_tile<R>;
  constexpr int N = tile::vector, quads = tile::rows / 4;
  const auto& x = job.x;
  extern __shared__ __align__(16) unsigned char token_memory[];
  R* const staged = reinterpret_cast<R*>(token_memory);
  const int stride = job.stride(), keys = job.tile.keys(), slice = job.tile.slice(), columns = job.tile.columns, groups = job.tile.groups;
  R* const partial = staged + job.tile.staged * stride;

  const index head_row = blockIdx.x / job.blocks_a_head;
  const int first_column = static_cast<int>(blockIdx.x % job.blocks_a_head) * slice, head = static_cast<int>(head_row % x.value_heads);
  const index sequence = head_row / x.value_heads, b = job.offsets ? 0 : sequence;
  const index begin = (job.offsets ? job.offsets[sequence] : 0) * x.micro, end = (job.offsets ? job.offsets[sequence + 1] : x.time) * x.micro;
  if (begin == end) return;

  const int thread = static_cast<int>(threadIdx.x), group = thread / columns, local = thread % columns * N;
  const int column = first_column + local, count = x.value_dim - column;
  const bool whole = x.value_dim % N == 0 && count >= N;
  const auto key_of = [&](int j) { return 4 * (group + groups * (j / 4)) + j % 4; };
  R s[tile::rows][N], norm[P::axes.normalised ? tile::rows : 1];
  // The state comes nearer while the first tokens are staged: its loads would hold up theirs.
  for (int i = thread; i < x.key_dim; i += job.tile.threads())
    if (first_column < x.value_dim) ptx::fetch_ahead(job.matrix + (head_row * x.key_dim + i) * x.value_dim + first_column);
  const auto load_state = [&] {
#pragma unroll
    for (int j = 0; j < tile::rows; ++j) {
      const int key = key_of(j);
      const bool there = key < x.key_dim && count > 0;
      if (there) load_columns(job.matrix + (head_row * x.key_dim + key) * x.value_dim + column, whole, count, s[j]);
      else
        for (int n = 0; n < N; ++n) s[j][n] = R(0);
      if constexpr (P::axes.normalised) norm[j] = key < x.key_dim ? static_cast<R>(job.normaliser_start[head_row * x.key_dim + key]) : R(0);
    }
  };

  for (index r0 = begin; r0 < end; r0 += job.tile.staged) {
    const int rows = static_cast<int>(end - r0 < job.tile.staged ? end - r0 : job.tile.staged);
    __syncthreads();
    for (int t = thread / 32; t < rows; t += job.tile.threads() / 32) stage_token(job, b, r0 + t, head, first_column, staged + t * stride);
    if (r0 == begin) load_state();
    __syncthreads();
    for (int t = 0; t < rows; ++t) {
      const R* const now = staged + t * stride;
      const R *const z = now + has::count * keys + local, *const rest = now + has::count * keys + slice;
      R* const sums = partial + (t & 1) * groups * (2 * slice + 4);
      const auto quad = [&](int array, int jq) { return *reinterpret_cast<const pack<R, 4>*>(now + array * keys + 4 * (group + groups * jq)); };
      R value[N], read_q[N], read_c[N], den = 0;
      for (int n = 0; n < N; ++n) value[n] = z[n], read_q[n] = read_c[n] = R(0);

      // The write of a token that erases waits for what the state says; any other is known at once.
      const auto update = [&] {
#pragma unroll
        for (int jq = 0; jq < quads; ++jq) {
          const auto q = quad(has::q, jq), k = quad(has::k, jq), p = has::two ? quad(has::p, jq) : k, a = has::channel ? quad(has::alpha, jq) : k;
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            R(&row)[N] = s[4 * jq + i];
#pragma unroll
            for (int n = 0; n < N; ++n) {
              if constexpr (has::exclusive) read_q[n] += q.v[i] * row[n];
              if constexpr (has::channel) row[n] *= a.v[i];
              if constexpr (has::scalar) row[n] *= rest[0];
              row[n] += k.v[i] * value[n];
              if constexpr (has::two) row[n] -= p.v[i] * read_c[n];
              if constexpr (!has::erases && !has::exclusive) read_q[n] += q.v[i] * row[n];
            }
            if constexpr (P::axes.normalised) {
              R& x_norm = norm[4 * jq + i];
              if constexpr (has::channel) x_norm *= a.v[i];
              if constexpr (has::scalar) x_norm *= rest[0];
              x_norm += k.v[i];
              den += q.v[i] * x_norm;
            }
          }
        }
      };
      if constexpr (has::erases) {
#pragma unroll
        for (int jq = 0; jq < quads; ++jq) {
          const auto q = quad(has::q, jq), c = quad(has::c, jq);
#pragma unroll
          for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int n = 0; n < N; ++n) {
              read_q[n] += q.v[i] * s[4 * jq + i][n];
              read_c[n] += c.v[i] * s[4 * jq + i][n];
            }
        }
      } else {
        update();
      }
      R* const mine = sums + group * (2 * slice + 4);
      for (int n = 0; n < N; ++n) {
        mine[local + n] = read_q[n];
        if constexpr (has::erases) mine[slice + local + n] = read_c[n];
      }
      if constexpr (P::axes.normalised)
        if (local == 0) mine[2 * slice] = den;
      __syncthreads();
      den = 0;
      for (int n = 0; n < N; ++n) read_q[n] = read_c[n] = R(0);
      for (int g = 0; g < groups; ++g) {
        const R* const theirs = sums + g * (2 * slice + 4);
        for (int n = 0; n < N; ++n) {
          read_q[n] += theirs[local + n];
          if constexpr (has::erases) read_c[n] += theirs[slice + local + n];
        }
        if constexpr (P::axes.normalised) den += theirs[2 * slice];
      }
      if constexpr (has::erases) {
        if constexpr (!has::two)
          for (int n = 0; n < N; ++n) value[n] -= read_c[n];
        update();
      }

      if (group != 0 || count <= 0 || (P::axes.micro_steps && (r0 + t) % x.micro != x.micro - 1)) continue;
      const index token = P::axes.micro_steps ? (r0 + t) / x.micro : r0 + t;
      R y[N];
      for (int n = 0; n < N; ++n) {
        y[n] = read_q[n];
        if constexpr (has::erases || has::exclusive) y[n] += rest[1] * value[n];
        if constexpr (has::two) y[n] -= rest[2] * read_c[n];
        if constexpr (P::axes.normalised) y[n] /= den + job.normaliser_eps;
      }
      if constexpr (has_output<P>) {
        const row<P, T> at(job.in, x, b, r0 + t, head);
        lanes_of<P, R> gates{};
        for_each_member(gates, [&](R& g, auto m) { g = rest[4 + static_cast<int>(m)]; });
        for (int n = 0; n < N; ++n)
          if (n < count) y[n] = job.policy.template output<R>(at.template lanes<width::value_dim>(gates, column + n), y[n]);
      }
      const index place = b * job.o_stride[0] + token * job.o_stride[1] + head * job.o_stride[2] + column;
      if (job.wide) store_columns(static_cast<R*>(job.o) + place, false, count, y);
      else store_columns(static_cast<T*>(job.o) + place, false, count, y);
    }
  }

#pragma unroll
  for (int j = 0; j < tile::rows; ++j) {
    const int key = key_of(j);
    if (key >= x.key_dim) continue;
    if (count > 0) store_columns(job.matrix + (head_row * x.key_dim + key) * x.value_dim + column, whole, count, s[j]);
    if constexpr (P::axes.normalised)
      if (column == 0) job.normaliser[head_row * x.key_dim + key] = static_cast<S>(norm[j]);
  }
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
