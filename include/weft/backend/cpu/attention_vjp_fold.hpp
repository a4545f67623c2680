// One block of keys against rows of queries, backwards: the five products of attention's gradient.
//
//   P = exp(x - lse),  dV += P^T dO,  dP = dO V^T,  dS = P (dP - delta) x'(s),  dQ += dS K,  dK += dS^T Q,
//   delta = sum dO o - dlse,  with x the capped and s the scaled score.
//
// P is computed again from the logarithm of its denominator (Dao et al. 2022, arXiv 2205.14135); a sink is in that.
#pragma once
#include "attention_fold.hpp"

namespace weft {
inline namespace WEFT_ISA {

// One worker's rows, of whole panels, and a strip's probabilities and score gradients.
template <class R>
struct vjp_rows {
  static constexpr index W = simd<R>::width, keys = attention_tile<R>::keys, strip = attention_tile<R>::strip;

  softmax_rows<R> scores;  // q scaled, and the strip's scores, which become P
  R* d_q = nullptr;        // [rows][key_stride], of the scaled q
  R* d_o = nullptr;        // [rows][value_stride]
  R* lse = nullptr;        // [rows]: 0 where a row reads nothing
  R* delta = nullptr;      // [rows]
  R* d_s = nullptr;        // [strip][keys]
  R* ones = nullptr;       // [keys]
  index key_stride = 0, value_stride = 0;
  bool finite = true;      // whether zero times every q and d_o is zero

  void place(arena& memory, index rows) {
    scores.query_stride = key_stride;
    scores.q = memory.take<R>(rows * key_stride);
    scores.p = memory.take<R>(strip * keys);
    d_q = memory.take<R>(rows * key_stride);
    d_o = memory.take<R>(rows * value_stride);
    lse = memory.take<R>(rows);
    delta = memory.take<R>(rows);
    d_s = memory.take<R>(strip * keys);
    ones = memory.take<R>(keys);
  }
};

// A block of keys and values as operands: both transposed, and the keys as they are.
template <class R>
class vjp_keys {
  using tile_type = attention_tile<R>;
  static constexpr index L = tile_type::panel;

 public:
  void place(arena& memory, index key_dim, index value_dim) {
    key_dim_ = key_dim;
    value_dim_ = value_dim;
    k_transposed_ = memory.take<R>(tile_type::keys * key_dim);
    v_transposed_ = memory.take<R>(tile_type::keys * value_dim);
    k_ = memory.take<R>(tile_type::keys * ((key_dim + L - 1) / L * L));
  }

  template <class T>
  void pack(const key_source<T>& source, index base, index lo, index hi) {
    detail::key_walk<T> walk(source);
    const auto key = [&](index p) { return walk.key(p); };
    detail::pack_transposed<R>(key, key_dim_, base, lo, hi, k_transposed_);
    detail::pack_transposed<R>([&](index p) { return walk.value(p); }, value_dim_, base, lo, hi, v_transposed_);
    detail::pack_panels<R>(key, key_dim_, base, lo, hi, k_);
    finite_ = answer::unknown;
    lo_ = lo - base;
    hi_ = hi - base;
  }

  void scores(const vjp_rows<R>& rows, index row, index count, index lo, index hi) const {
    products(rows.scores.q + row * rows.key_stride, rows.key_stride, count, k_transposed_, key_dim_, rows.scores.p, lo, hi);
  }
  void weight_gradients(const vjp_rows<R>& rows, index row, index count, index lo, index hi) const {
    products(rows.d_o + row * rows.value_stride, rows.value_stride, count, v_transposed_, value_dim_, rows.d_s, lo, hi);
  }
  void add_query_gradients(const vjp_rows<R>& rows, index row, index r, index count, index lo, index hi) const {
    for (index c = 0; c < rows.key_stride; c += L)
      tile::product<tile_type::rows, tile_type::vectors, true>(rows.d_s + r * tile_type::keys + lo, tile_type::keys, count,
                                                               k_ + c * tile_type::keys + lo * L, L, rows.d_q + (row + r) * rows.key_stride + c,
                                                               rows.key_stride, tile_type::vectors, hi - lo);
  }

  // Whether zero times every key is zero. Asked only where some rows do not see all keys of the block.
  bool finite() {
    constexpr index W = simd<R>::width;
    if (finite_ == answer::unknown) {
      simd<R> sum(R(0));
      for (index c = 0; c < key_dim_; c += W)
        for (index j = lo_; j < hi_; ++j) sum += simd<R>(R(0)) * simd<R>::load(k_ + c / L * L * tile_type::keys + j * L + c % L);
      finite_ = lane_sum(sum) == R(0) ? answer::yes : answer::no;
    }
    return finite_ == answer::yes;
  }

 private:
  static void products(const R* a, index stride, index count, const R* transposed, index depth, R* out, index lo, index hi) {
    for (index j = lo / L * L; j < hi; j += L)
      for (index r = 0; r < count; r += tile_type::rows)
        tile::product_block<tile_type::rows, tile_type::vectors>(a + r * stride, stride, transposed + j * depth, L, out + r * tile_type::keys + j,
                                                                 tile_type::keys, depth);
  }

  R* k_transposed_ = nullptr;
  R* v_transposed_ = nullptr;
  R* k_ = nullptr;
  index key_dim_ = 0, value_dim_ = 0, lo_ = 0, hi_ = 0;
  answer finite_ = answer::unknown;
};

// Sums of the gradients of the block's keys: rows of whole panels, from its first key on. Null: not wanted.
template <class R>
struct key_sums {
  R* d_k = nullptr;
  R* d_v = nullptr;
};

template <class Selector, class R>
class attention_vjp_fold {
  using tile_type = attention_tile<R>;
  static constexpr index W = simd<R>::width, L = tile_type::panel, block = tile_type::keys, strip = tile_type::strip;

 public:
  attention_fold<Selector, R> reads;  // the same keys as forwards
  bool want_q;

  // The keys at [lo, hi) of the block that begins at `base` and the rows [0, total).
  void operator()(vjp_rows<R>& rows, index total, vjp_keys<R>& keys, const key_sums<R>& sums, index base, index lo, index hi) const {
    for (index row = 0; row < total; row += strip) {
      const index count = std::min(strip, total - row);
      const key_range part = reads.clip(row, count, base, lo, hi);
      const index a = part.begin, b = part.end;
      if (a >= b) continue;
      const index from = a / L * L, to = (b + L - 1) / L * L;
      keys.scores(rows, row, count, a, b);
      keys.weight_gradients(rows, row, count, a, b);
      const bool same = reads.all_read(row, count, base, a, b), whole = same && from == a && to == b;
      for (index r = 0; r < count; ++r) {
        R* const p = rows.scores.p + r * block;
        R* const d_s = rows.d_s + r * block;
        differentiate(p, d_s, from, to, rows.lse[row + r], rows.delta[row + r]);
        if (whole) continue;
        reads.fill_unread(row + r, p, base, from, to, a, b, R(0));
        reads.fill_unread(row + r, d_s, base, from, to, a, b, R(0));
      }
      if (same || (rows.finite && keys.finite())) {
        add(rows, row, 0, count, keys, sums, a, b);
      } else {  // zero times infinity: every row gives only to what it reads
        for (index r = 0; r < count; ++r)
          reads.cover(row + r, 1, [&](key_range k) {
            const index begin = std::max(k.begin - base, a), end = std::min(k.end - base, b);
            if (begin < end) add(rows, row, r, 1, keys, sums, begin, end);
          });
      }
    }
  }

 private:
  // The row's scores become P, what its weights' gradients are becomes that of its scores.
  WEFT_INLINE void differentiate(R* p, R* d_s, index from, index to, R lse, R delta) const {
    const simd<R> denominator(lse), mean(delta);
    if (reads.softcap > 0) {
      const simd<R> c(reads.softcap), inverse(R(1) / reads.softcap);
      for (index i = from; i < to; i += W) {
        const simd<R> t = tanh_(simd<R>::load(p + i) * inverse), weight = detail::exp_nonpositive(c * t - denominator);
        weight.store(p + i);
        (weight * (simd<R>::load(d_s + i) - mean) * fnma(t, t, simd<R>(R(1)))).store(d_s + i);
      }
    } else {
      for (index i = from; i < to; i += W) {
        const simd<R> weight = detail::exp_nonpositive(simd<R>::load(p + i) - denominator);
        weight.store(p + i);
        (weight * (simd<R>::load(d_s + i) - mean)).store(d_s + i);
      }
    }
  }

  // The rows [row + r, row + r + count) of the strip at `row` and the keys [lo, hi).
  void add(vjp_rows<R>& rows, index row, index r, index count, const vjp_keys<R>& keys, const key_sums<R>& sums, index lo, index hi) const {
    if (sums.d_v)
      tile::update<tile_type::rows, tile_type::vectors>(rows.ones, rows.scores.p + r * block + lo, block, hi - lo, rows.d_o + (row + r) * rows.value_stride,
                                                        rows.value_stride, sums.d_v + lo * rows.value_stride, rows.value_stride, rows.value_stride / W, count);
    if (sums.d_k)
      tile::update<tile_type::rows, tile_type::vectors>(rows.ones, rows.d_s + r * block + lo, block, hi - lo, rows.scores.q + (row + r) * rows.key_stride,
                                                        rows.key_stride, sums.d_k + lo * rows.key_stride, rows.key_stride, rows.key_stride / W, count);
    if (want_q) keys.add_query_gradients(rows, row, r, count, lo, hi);
  }
};

}  // namespace WEFT_ISA
}  // namespace weft
