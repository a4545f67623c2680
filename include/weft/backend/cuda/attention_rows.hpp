// Attention for every selector, width and storage type on any GPU since sm_80: the portable kernel, and the one that finishes
// what was split. Sixteen rows a block, the tokens of a key head's group one after the other, so that a decode step has the
// keys once for the whole group. A weight of zero meets no value: what a row does not read cannot reach it.
#pragma once
#include "attention_job.hpp"
#include "runtime.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// Row r of a sequence is query head head + r % group at token r / group.
struct row_block {
  index n = 0;
  int key_head = 0, head = 0, group = 1;
  index first = 0;  // row
  int rows = 16;
  int slice = 0, split = 0;
};

template <class T>
struct attention_tile {
  using R = accumulate_t<T>;
  static constexpr int rows = 16, keys = 32, chunk = 32, columns = 128, threads = 128, rows_a_warp = rows / (threads / 32);

  R q[rows][chunk + 1], k[keys][chunk + 1];
  alignas(16) R weight[keys][rows + 4];  // below zero: not read
  R left[rows], l[rows];
  const T *q_row[rows], *k_row[keys], *v_row[keys];
  range_list ranges;
};

template <class R>
__device__ R max_of_warp(R x) {
  for (int d = 16; d > 0; d /= 2) x = ::max(x, __shfl_xor_sync(0xffffffffu, x, d));
  return x;
}
template <class R>
__device__ R sum_of_warp(R x) {
  for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

template <class T, class Selector>
class row_attention {
  using R = accumulate_t<T>;
  using tile = attention_tile<T>;

 public:
  __device__ row_attention(const attention_job<T, Selector>& job, tile& s, const row_block& b)
      : job_(job), s_(s), b_(b), seq_(job.sequence(b.n)), thread_(static_cast<int>(threadIdx.x)), warp_(thread_ / 32), lane_(thread_ % 32) {
    for (int i = 0; i < tile::rows_a_warp; ++i) m_[i] = -INFINITY, l_[i] = 0;
    for (R& x : sum_) x = 0;
  }

  __device__ void run() {
    const index left = seq_.count * b_.group - b_.first;
    if (left <= 0) return;
    rows_ = left < b_.rows ? static_cast<int>(left) : b_.rows;
    __syncthreads();
    if (thread_ < tile::rows) {
      const int r = thread_ < rows_ ? thread_ : 0;
      s_.q_row[thread_] = job_.q.at(seq_.batch, seq_.begin + token(r), head(r));
    }
    const query_span all{b_.n, b_.key_head, position(0), position(rows_ - 1) + 1, seq_.keys(), head(0), heads_of_lists()};
    const index limit = job_.causal ? position(rows_ - 1) + 1 : seq_.keys();
    const index from = job_.splits > 1 ? b_.split * job_.segment : 0, to = job_.splits > 1 ? from + job_.segment : every_key;
    for (int skip = 0;; skip += range_list::most) {
      __syncthreads();
      if (thread_ == 0) s_.ranges.collect(job_.select, all, limit, skip, from, to, [](index) { return every_key; });
      __syncthreads();
      for (int i = 0; i < s_.ranges.count; ++i)
        for (index j = s_.ranges.at[i].begin; j < s_.ranges.at[i].end; j += tile::keys) fold(j, s_.ranges.at[i].end);
      if (s_.ranges.count < range_list::most) break;
    }
    finish();
  }

 private:
  __device__ index token(int r) const { return (b_.first + r) / b_.group; }
  __device__ int head(int r) const { return b_.head + static_cast<int>((b_.first + r) % b_.group); }
  __device__ index position(int r) const { return seq_.held + token(r); }
  __device__ int heads_of_lists() const {
    if constexpr (requires { Selector::per_query_head; }) return 1;  // the rows of a block have one list
    else return b_.group;
  }

  // The keys from position j on.
  __device__ void fold(index j, index end) {
    const int count = end - j < tile::keys ? static_cast<int>(end - j) : tile::keys;
    __syncthreads();
    if (thread_ < tile::keys) {
      s_.k_row[thread_] = thread_ < count ? job_.key(seq_, b_.key_head, j + thread_) : nullptr;
      s_.v_row[thread_] = thread_ < count ? job_.value(seq_, b_.key_head, j + thread_) : nullptr;
    }
    score();
    __syncthreads();
    for (int i = 0; i < tile::rows_a_warp; ++i) weigh(i, j, count);
    __syncthreads();
    for (int r = 0; r < tile::rows; ++r) sum_[r] *= s_.left[r];
    const int column = b_.slice * tile::columns + thread_;
    if (column >= job_.value_dim) return;
    for (int i = 0; i < count; ++i) {
      if (!s_.v_row[i]) continue;
      const R v = static_cast<R>(s_.v_row[i][column]);
      for (int r = 0; r < tile::rows; ++r) {
        const R w = s_.weight[i][r];
        if (!(w < 0)) sum_[r] += w * v;
      }
    }
  }

  __device__ void score() {
    const int row = thread_ / 8, key = thread_ % 8;
    R x[tile::keys / 8] = {};
    for (int c = 0; c < job_.key_dim; c += tile::chunk) {
      __syncthreads();
      for (int i = thread_; i < tile::rows * tile::chunk; i += tile::threads) {
        const int r = i / tile::chunk, at = c + i % tile::chunk;
        s_.q[r][i % tile::chunk] = at < job_.key_dim ? static_cast<R>(s_.q_row[r][at]) : R(0);
      }
      for (int i = thread_; i < tile::keys * tile::chunk; i += tile::threads) {
        const int r = i / tile::chunk, at = c + i % tile::chunk;
        s_.k[r][i % tile::chunk] = at < job_.key_dim && s_.k_row[r] ? static_cast<R>(s_.k_row[r][at]) : R(0);
      }
      __syncthreads();
      for (int i = 0; i < tile::chunk; ++i)
        for (int n = 0; n < tile::keys / 8; ++n) x[n] += s_.q[row][i] * s_.k[key + 8 * n][i];
    }
    for (int n = 0; n < tile::keys / 8; ++n) s_.weight[key + 8 * n][row] = job_.capped(job_.scale * x[n]);
  }

  // Scores of row i of this warp to weights: a key a lane.
  __device__ void weigh(int i, index j, int count) {
    const int r = warp_ * tile::rows_a_warp + i;
    const index p = position(r < rows_ ? r : 0), key = j + lane_;
    const bool read = r < rows_ && lane_ < count && (!job_.causal || key <= p) && s_.v_row[lane_] &&
                      reads(job_.select, query_span{b_.n, b_.key_head, p, p + 1, seq_.keys(), head(r < rows_ ? r : 0), 1}, key);
    const R score = read ? s_.weight[lane_][r] : R(-INFINITY);
    const softmax_weights<R> w(m_[i], max_of_warp(score));
    const R safe = w.m == R(-INFINITY) ? R(0) : w.m, weight = exp(score - safe);
    m_[i] = w.m;
    l_[i] = l_[i] * w.left + sum_of_warp(read ? weight : R(0));
    s_.weight[lane_][r] = read ? weight : R(-1);
    if (lane_ == 0) s_.left[r] = w.left;
  }

  __device__ void finish() {
    const bool whole = job_.splits == 1;
    const index row0 = (b_.n * job_.query_heads + b_.head) * seq_.count + b_.first;  // of what is merged: one token a group
    __syncthreads();
    if (lane_ == 0)
      for (int i = 0; i < tile::rows_a_warp; ++i) {
        const int r = warp_ * tile::rows_a_warp + i;
        if (r >= rows_) break;
        R left = 1, l = l_[i], m = m_[i];
        if (whole && job_.sink) {
          const softmax_weights<R> w(m, job_.sink[head(r) * job_.sink_stride]);
          left = w.left, l = l * w.left + w.right, m = w.m;
        }
        if (!seq_.fits) l = NAN;
        s_.left[r] = left, s_.l[r] = l;
        if (b_.slice > 0) continue;
        if (whole) job_.store_sum(seq_.batch, seq_.begin + token(r), head(r), m, l);
        else job_.sums[2 * ((row0 + r) * job_.splits + b_.split)] = m, job_.sums[2 * ((row0 + r) * job_.splits + b_.split) + 1] = l;
      }
    __syncthreads();
    const int column = b_.slice * tile::columns + thread_;
    if (column >= job_.value_dim) return;
    for (int r = 0; r < tile::rows; ++r) {
      if (r >= rows_) break;
      if (whole) job_.store(seq_.batch, seq_.begin + token(r), head(r), column, softmax_state<R>{R(0), s_.l[r], sum_[r] * s_.left[r]}.output());
      else job_.partial[((row0 + r) * job_.splits + b_.split) * job_.value_dim + column] = sum_[r];
    }
  }

  const attention_job<T, Selector>& job_;
  tile& s_;
  const row_block b_;
  const call_sequence seq_;
  int rows_ = 0, thread_, warp_, lane_;
  R m_[tile::rows_a_warp], l_[tile::rows_a_warp];  // of the warp's rows, in every lane
  R sum_[tile::rows];                              // of the thread's column
};

// Blocks of rows by their numbers: all of them, or where `again` has a number for each piece of 128 tokens of a query head
// (attention_tensor.hpp), those of pieces whose number is not 0.
struct row_blocks {
  int rows = 16, slices = 1;
  index tiles = 1;  // of a key head, or pieces of a query head
  index count = 0;
  const int* again = nullptr;
  static constexpr int tokens_again = 128;
};

template <class T, class Selector>
__global__ void __launch_bounds__(attention_tile<T>::threads)
    attention_rows(const __grid_constant__ attention_job<T, Selector> job, const __grid_constant__ row_blocks blocks) {
  __shared__ attention_tile<T> s;
  for (index number = blockIdx.x; number < blocks.count; number += gridDim.x) {
    index i = number;
    row_block b;
    b.rows = blocks.rows;
    b.split = static_cast<int>(i % job.splits), i /= job.splits;
    b.slice = static_cast<int>(i % blocks.slices), i /= blocks.slices;
    int parts = 1;
    if (blocks.again) {
      if (blocks.again[i] == 0) continue;
      b.head = static_cast<int>(i / blocks.tiles % job.query_heads);
      b.key_head = b.head / job.group();
      b.n = i / blocks.tiles / job.query_heads;
      b.first = (blocks.tiles - 1 - i % blocks.tiles) * blocks.tokens_again;
      parts = blocks.tokens_again / blocks.rows;
    } else {
      b.first = (blocks.tiles - 1 - i % blocks.tiles) * blocks.rows, i /= blocks.tiles;  // the last rows read the most keys
      b.key_head = static_cast<int>(i % job.heads);
      b.n = i / job.heads;
      b.group = job.group();
      b.head = b.key_head * b.group;
    }
    for (; parts > 0; --parts, b.first += b.rows) row_attention<T, Selector>(job, s, b).run();
  }
}

// A row a block: joins the splits of its keys, and its sink.
template <class T, class Selector>
__global__ void attention_merge(const __grid_constant__ attention_job<T, Selector> job) {
  using R = accumulate_t<T>;
  const index row = blockIdx.x, n = row / job.query_heads;
  const int head = static_cast<int>(row % job.query_heads);
  const call_sequence seq = job.sequence(n);
  const R* const sums = job.sums + 2 * row * job.splits;
  R m = job.sink ? job.sink[head * job.sink_stride] : R(-INFINITY), l = 0;
  for (int s = 0; s < job.splits; ++s) m = ::max(m, sums[2 * s]);
  const R safe = m == R(-INFINITY) ? R(0) : m;
  if (job.sink) l = exp(job.sink[head * job.sink_stride] - safe);
  for (int s = 0; s < job.splits; ++s) l += exp(sums[2 * s] - safe) * sums[2 * s + 1];
  for (int c = static_cast<int>(threadIdx.x); c < job.value_dim; c += static_cast<int>(blockDim.x)) {
    R x = 0;
    for (int s = 0; s < job.splits; ++s) {
      const R w = exp(sums[2 * s] - safe);
      if (sums[2 * s] != R(-INFINITY)) x += w * job.partial[(row * job.splits + s) * job.value_dim + c];
    }
    job.store(seq.batch, seq.begin, head, c, softmax_state<R>{m, l, x}.output());
  }
  if (threadIdx.x == 0) job.store_sum(seq.batch, seq.begin, head, m, l);
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
