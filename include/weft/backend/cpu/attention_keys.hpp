// A block of keys and values as operands of the two products: packed for many rows, or in place for few.
#pragma once
#include "../../attention/append.hpp"
#include "attention_rows.hpp"

namespace weft {
inline namespace WEFT_ISA {

enum class answer { unknown, yes, no };

namespace detail {

// Stage H of a transposition of W x W: rows i and i + H exchange blocks of H lanes.
template <int H, class R, int... I>
WEFT_INLINE void exchange(simd<R>& a, simd<R>& b, std::integer_sequence<int, I...>) {
  using reg = raw<R, sizeof...(I)>;
  constexpr int W = sizeof...(I);
  const auto x = std::bit_cast<reg>(a), y = std::bit_cast<reg>(b);
  a = std::bit_cast<simd<R>>(reg(__builtin_shufflevector(x, y, (I & H ? W + I - H : I)...)));
  b = std::bit_cast<simd<R>>(reg(__builtin_shufflevector(x, y, (I & H ? W + I : I + H)...)));
}
template <int H, class R>
WEFT_INLINE void transpose(simd<R>* row) {
  constexpr int W = simd<R>::width;
  if constexpr (H > 0) {
    WEFT_UNROLL for (int i = 0; i < W; ++i)
      if (!(i & H)) exchange<H>(row[i], row[i + H], std::make_integer_sequence<int, W>{});
    transpose<H / 2>(row);
  }
}

// Walks over positions in order; asks the source only where a run ends.
template <class T>
class key_walk {
 public:
  WEFT_INLINE explicit key_walk(const key_source<T>& s) : source_(s) {}
  WEFT_INLINE const T* key(index position) { return seek(position).k + (position - first_) * run_.k_stride; }
  WEFT_INLINE const T* value(index position) { return seek(position).v + (position - first_) * run_.v_stride; }

 private:
  WEFT_INLINE const key_run<T>& seek(index position) {
    if (position < first_ || position >= first_ + run_.count) {
      run_ = source_.run(position);
      first_ = position;
    }
    return run_;
  }
  const key_source<T>& source_;
  key_run<T> run_{nullptr, nullptr, 0, 0, 0};
  index first_ = 0;
};

// The rows row(p) of `dim` numbers at the positions [lo, hi) of the block that begins at `base`, transposed:
// [panel of the block][dim][columns], zeros in a vector's other columns.
template <class R, class Row>
void pack_transposed(Row&& row, index dim, index base, index lo, index hi, R* packed) {
  constexpr index W = simd<R>::width, L = attention_tile<R>::panel;
  for (index j = (lo - base) / W * W; j < hi - base; j += W) {
    decltype(row(lo)) at[W];
    for (index i = 0; i < W; ++i) at[i] = base + j + i >= lo && base + j + i < hi ? row(base + j + i) : nullptr;
    R* const to = packed + j / L * L * dim + j % L;
    for (index d = 0; d < dim; d += W) {
      const index n = std::min(W, dim - d);
      simd<R> x[W];
      WEFT_UNROLL for (index i = 0; i < W; ++i) x[i] = !at[i] ? simd<R>(R(0)) : n == W ? load(at[i] + d) : load(at[i] + d, n);
      transpose<W / 2>(x);
      if (n == W) {
        WEFT_UNROLL for (index i = 0; i < W; ++i) x[i].store(to + (d + i) * L);
      } else {
        for (index i = 0; i < n; ++i) x[i].store(to + (d + i) * L);
      }
    }
  }
}

// The same rows as they are: [panel of dim][block][columns], zeros behind the last.
template <class R, class Row>
void pack_panels(Row&& row, index dim, index base, index lo, index hi, R* packed) {
  constexpr index W = simd<R>::width, L = attention_tile<R>::panel, keys = attention_tile<R>::keys;
  for (index p = lo; p < hi; ++p) {
    const auto* const from = row(p);
    R* const to = packed + (p - base) * L;
    for (index c = 0; c < dim; c += W) (c + W <= dim ? load(from + c) : load(from + c, dim - c)).store(to + c / L * L * keys + c % L);
    if (const index tail = (dim + W - 1) / W * W; tail % L != 0) simd<R>(R(0)).store(to + tail / L * L * keys + tail % L);
  }
}

}  // namespace detail

// Keys transposed and values as they are, both in panels of a register block's columns: [panel][depth][columns].
template <class R>
class packed_keys {
  using tile_type = attention_tile<R>;
  static constexpr index W = simd<R>::width, L = tile_type::panel;

 public:
  void place(arena& memory, index key_dim, index value_dim) {
    key_dim_ = key_dim;
    value_dim_ = value_dim;
    k_ = memory.take<R>(tile_type::keys * key_dim);
    v_ = memory.take<R>(tile_type::keys * ((value_dim + L - 1) / L * L));
  }

  // The keys [lo, hi) of the block that begins at `base`.
  template <class T>
  void pack(const key_source<T>& source, index base, index lo, index hi) {
    detail::key_walk<T> walk(source);
    detail::pack_transposed<R>([&](index p) { return walk.key(p); }, key_dim_, base, lo, hi, k_);
    detail::pack_panels<R>([&](index p) { return walk.value(p); }, value_dim_, base, lo, hi, v_);
    finite_ = answer::unknown;
    lo_ = lo - base;
    hi_ = hi - base;
  }

  // Scores of the rows [row, row + count) at the keys [lo, hi), whole panels.
  template <class Rows>
  void scores(Rows& rows, index row, index count, index lo, index hi) const {
    for (index j = lo / L * L; j < hi; j += L)
      for (index r = 0; r < count; r += tile_type::rows)
        tile::product_block<tile_type::rows, tile_type::vectors>(rows.q + (row + r) * rows.query_stride, rows.query_stride, k_ + j * key_dim_, L,
                                                                 rows.p + r * tile_type::keys + j, tile_type::keys, key_dim_);
  }
  // acc += p V over the keys [lo, hi).
  template <class Rows>
  void weigh(Rows& rows, index row, index count, index lo, index hi) const {
    for (index c = 0; c < rows.value_stride; c += L)
      for (index r = 0; r < count; r += tile_type::rows)
        tile::product_rows<tile_type::rows, tile_type::vectors, true>(rows.p + r * tile_type::keys + lo, tile_type::keys,
                                                                      v_ + c * tile_type::keys + lo * L, L,
                                                                      [&](index i) { return rows.sums(row + r + i) + c; }, hi - lo);
  }
  // The same for one row of the strip.
  template <class Rows>
  void weigh_row(Rows& rows, index row, index r, index lo, index hi) const {
    for (index c = 0; c < rows.value_stride; c += L)
      tile::product_block<1, tile_type::vectors, true>(rows.p + r * tile_type::keys + lo, tile_type::keys, v_ + c * tile_type::keys + lo * L, L,
                                                       rows.sums(row + r) + c, rows.value_stride, hi - lo);
  }

  // Whether zero times every value is zero. Asked only where some rows do not see all keys of the block.
  bool finite() {
    if (finite_ == answer::unknown) {
      simd<R> sum(R(0));
      for (index c = 0; c < value_dim_; c += W)
        for (index j = lo_; j < hi_; ++j) sum += simd<R>(R(0)) * simd<R>::load(v_ + c / L * L * tile_type::keys + j * L + c % L);
      finite_ = lane_sum(sum) == R(0) ? answer::yes : answer::no;
    }
    return finite_ == answer::yes;
  }

  static constexpr index column_block = L;

 private:
  R* k_ = nullptr;
  R* v_ = nullptr;
  index key_dim_ = 0, value_dim_ = 0, lo_ = 0, hi_ = 0;
  answer finite_ = answer::unknown;
};

// Keys and values where they lie; copied only where they are no whole vectors wide. Memory is read row after row, and asked
// for a little ahead: what decoding waits for.
template <class T>
class plain_keys {
  using R = accumulate_t<T>;
  using tile_type = attention_tile<R>;
  static constexpr index W = simd<R>::width, block = tile_type::in_place;

 public:
  void place(arena& memory, index key_dim, index value_dim) {
    key_dim_ = key_dim;
    value_dim_ = value_dim;
    k_width_ = round_up_to_lanes<R>(key_dim);
    v_width_ = round_up_to_lanes<R>(value_dim);
    k_copy_ = memory.take<T>(k_width_ == key_dim ? 0 : block * k_width_);
    v_copy_ = memory.take<T>(v_width_ == value_dim ? 0 : block * v_width_);
  }

  // `count` keys of one run, a block at most.
  void take(const key_run<T>& run, index count) {
    count_ = count;
    finite_ = answer::unknown;
    k_ = run.k;
    v_ = run.v;
    k_stride_ = run.k_stride;
    v_stride_ = run.v_stride;
    k_rows_ = v_rows_ = run.count;
    if (k_width_ != key_dim_) copy(k_, k_stride_, k_rows_, key_dim_, k_copy_, k_width_);
    if (v_width_ != value_dim_) copy(v_, v_stride_, v_rows_, value_dim_, v_copy_, v_width_);
  }

  void scores(softmax_rows<R>& rows, index row, index count, index lo, index hi) const {
    index r = 0;
    for (; r + 4 <= count; r += 4) dots<4, 2, 1>(rows, row, r, lo, hi);
    for (; r + 2 <= count; r += 2) dots<2, 4, 1>(rows, row, r, lo, hi);
    if (r < count) dots<1, 1, 4>(rows, row, r, lo, hi);
  }
  void weigh(softmax_rows<R>& rows, index row, index count, index lo, index hi) const {
    index r = 0;
    for (; r + 4 <= count; r += 4) weigh_rows<4, 2>(rows, row, r, lo, hi);
    for (; r + 2 <= count; r += 2) weigh_rows<2, 4>(rows, row, r, lo, hi);
    if (r < count) weigh_row(rows, row, r, lo, hi);
  }
  void weigh_row(softmax_rows<R>& rows, index row, index r, index lo, index hi) const { weigh_rows<1, 8>(rows, row, r, lo, hi); }

  bool finite() {
    if (finite_ == answer::unknown) {
      simd<R> sum(R(0));
      for (index j = 0; j < count_; ++j)
        for (index c = 0; c < v_width_; c += W) sum += simd<R>(R(0)) * load(v_ + j * v_stride_ + c);
      finite_ = lane_sum(sum) == R(0) ? answer::yes : answer::no;
    }
    return finite_ == answer::yes;
  }

  static constexpr index column_block = W;

 private:
  void copy(const T*& from, index& stride, index& rows, index dim, T* to, index width) const {
    for (index j = 0; j < count_; ++j) {
      std::copy_n(from + j * stride, dim, to + j * width);
      std::fill(to + j * width + dim, to + (j + 1) * width, T{});
    }
    from = to;
    stride = width;
    rows = count_;
  }

  // Asks for the rows that lie a kilobyte behind [j, j + count), those of later blocks too, but none that do not exist.
  WEFT_INLINE static void fetch(const T* p, index stride, index rows, index width, index j, index count) {
    constexpr index line = 64 / static_cast<index>(sizeof(T)), ahead = 1024 / static_cast<index>(sizeof(T));
    const index first = j + std::max<index>(1, ahead / std::max<index>(1, width)), last = std::min(first + count, rows);
    for (index i = first; i < last; ++i)
      for (index c = 0; c < width; c += line) __builtin_prefetch(p + i * stride + c);
  }

  // Rows x Keys dot products at a time, each as Parts sums that do not wait for each other; eight are reduced together.
  template <int Rows, int Keys, int Parts>
  WEFT_INLINE void dots(softmax_rows<R>& rows, index row, index r, index lo, index hi) const {
    constexpr int together = 8, group = together / Rows;
    const R* const q = rows.q + (row + r) * rows.query_stride;
    R* const p = rows.p + r * tile_type::keys;
    for (index j = lo; j < hi; j += group) {
      simd<R> sum[together];
      WEFT_UNROLL for (int i = 0; i < group; i += Keys) {
        if (r == 0) fetch(k_, k_stride_, k_rows_, k_width_, j + i, Keys);
        const T* k[Keys];
        WEFT_UNROLL for (int n = 0; n < Keys; ++n) k[n] = k_ + std::min<index>(j + i + n, hi - 1) * k_stride_;
        simd<R> part[Parts][Rows * Keys];
        WEFT_UNROLL for (int a = 0; a < Parts; ++a)
          WEFT_UNROLL for (int n = 0; n < Rows * Keys; ++n) part[a][n] = simd<R>(R(0));
        const auto add = [&](simd<R>* to, index d) {
          simd<R> x[Rows];
          WEFT_UNROLL for (int m = 0; m < Rows; ++m) x[m] = simd<R>::load(q + m * rows.query_stride + d);
          WEFT_UNROLL for (int n = 0; n < Keys; ++n) {
            const simd<R> y = load(k[n] + d);
            WEFT_UNROLL for (int m = 0; m < Rows; ++m) to[m * Keys + n] = fma(x[m], y, to[m * Keys + n]);
          }
        };
        index d = 0;
        for (; d + Parts * W <= k_width_; d += Parts * W)
          WEFT_UNROLL for (int a = 0; a < Parts; ++a) add(part[a], d + a * W);
        if constexpr (Parts > 1)
          for (; d < k_width_; d += W) add(part[0], d);
        WEFT_UNROLL for (int m = 0; m < Rows; ++m)
          WEFT_UNROLL for (int n = 0; n < Keys; ++n) {
            simd<R>& to = sum[m * group + i + n];
            to = part[0][m * Keys + n];
            WEFT_UNROLL for (int a = 1; a < Parts; ++a) to += part[a][m * Keys + n];
          }
      }
      R out[std::max<index>(together, W)];
      lane_sums<together>(sum, out);
      const index n = std::min<index>(group, hi - j);
      for (int m = 0; m < Rows; ++m) std::copy_n(out + m * group, n, p + m * tile_type::keys + j);
    }
  }

  // A few keys at a time in all columns: for one row so few that memory is read in order, for more as the sums' traffic allows.
  template <int Rows, int Vectors>
  WEFT_INLINE void weigh_rows(softmax_rows<R>& rows, index row, index r, index lo, index hi) const {
    constexpr index step = Rows == 1 ? 4 : 16;
    R* const acc = rows.sums(row + r);
    for (index j = lo; j < hi; j += step) {
      const index n = std::min(step, hi - j);
      if (r == 0) fetch(v_, v_stride_, v_rows_, v_width_, j, n);
      const R* const p = rows.p + r * tile_type::keys + j;
      const T* const v = v_ + j * v_stride_;
      index c = 0;
      for (; c + Vectors * W <= v_width_; c += Vectors * W)
        tile::product_block<Rows, Vectors, true>(p, tile_type::keys, v + c, v_stride_, acc + c, rows.value_stride, n);
      for (; c < v_width_; c += W) tile::product_block<Rows, 1, true>(p, tile_type::keys, v + c, v_stride_, acc + c, rows.value_stride, n);
    }
  }

  T* k_copy_ = nullptr;
  T* v_copy_ = nullptr;
  const T* k_ = nullptr;
  const T* v_ = nullptr;
  index key_dim_ = 0, value_dim_ = 0, k_width_ = 0, v_width_ = 0, k_stride_ = 0, v_stride_ = 0, count_ = 0, k_rows_ = 0, v_rows_ = 0;
  answer finite_ = answer::unknown;
};

}  // namespace WEFT_ISA
}  // namespace weft
