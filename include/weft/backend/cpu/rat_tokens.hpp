// What both directions of RAT on the CPU share.
#pragma once
#include "../../core/verbs.hpp"
#include "../../hybrid/rat_check.hpp"
#include "../../math/rotary.hpp"
#include "attention_walk.hpp"
#include "rotary.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// Where the tokens of a call lie among the chunks, and how the running pair takes them up: what both directions begin with.
template <class T>
class rat_tokens {
 protected:
  using R = accumulate_t<T>;
  using tile_type = attention_tile<R>;
  static constexpr index W = simd<R>::width, L = tile_type::panel;

  // Absolute positions of one sequence.
  struct piece {
    index begin, end;
  };
  struct pair {
    R *key, *value;  // zeros behind their width
    R* turned;       // the key as it is scored
  };

  rat_tokens(cpu& executor, const rat<T>& mixer, const typename rat<T>::inputs& in, const rat_state<R>& before, std::span<const index> cu, const rat_extents& x)
      : executor_(executor), in_(in), before_(before), cu_(cu), x_(x), scale_(static_cast<R>(mixer.scale_for(x.key_dim))), base_(mixer.rope_base),
        lanes_(round_up_to_lanes<R>(x.key_dim)), stride_((x.key_dim + L - 1) / L * L) {
    const index block = tile_type::block_rows(x_.key_dim, x_.key_dim);
    rows_ = x_.chunk <= block ? block / x_.chunk * x_.chunk : block;
    piece_ = std::max(rows_, x_.chunk);
  }

  piece whole(index n) const {
    const index begin = before_.chunks.length(n) * x_.chunk + before_.held(n);
    return {begin, begin + tokens_of(x_, cu_, n).count()};
  }
  // Chunks that the call's tokens of a sequence lie in.
  index chunks_of(index n) const {
    const piece s = whole(n);
    return s.begin < s.end ? (s.end - 1) / x_.chunk - s.begin / x_.chunk + 1 : 0;
  }
  index token(index n, index place) const { return tokens_of(x_, cu_, n).begin + place - whole(n).begin; }
  index batch(index n) const { return tokens_of(x_, cu_, n).batch; }
  // The end of the block of rows that begins at a position: whole chunks, or a part of one, so that rows keep step with chunks.
  index end_of_block(index at, index end) const {
    index next = std::min(end, at + rows_);
    if (at % x_.chunk != 0 || x_.chunk > rows_) next = std::min(next, (at / x_.chunk + 1) * x_.chunk);
    return next;
  }
  // The reads of such a block. To the kernel the tokens of a chunk are what the heads of a group are.
  attention_fold<dense, R> fold_of(index n, index h, index at) const {
    return {dense_, n, h, at / x_.chunk - 1, x_.chunk, (whole(n).end - 1) / x_.chunk, true, R(0)};
  }
  key_source<R> source(const key_value_cache<R>& chunks, index n, index h, index count) const {
    const index slots = chunks.capacity(), first = (n * x_.heads + h) * slots;
    key_source<R> s;
    s.slots = cache_slots(slots, retained_keys{});
    s.cache_k = chunks.keys.data() + first * x_.key_dim;
    s.cache_v = chunks.values.data() + first * x_.key_dim;
    s.key_dim = s.value_dim = x_.key_dim;
    s.cached = s.end = count;
    return s;
  }

  void take_angles(temporaries::scope& shared) {
    if (base_ == 0) return;
    index rows = 0;
    for (index n = 0; n < x_.sequences; ++n) rows += chunks_of(n);
    first_angle_ = shared.take<index>(x_.sequences);
    cos_ = shared.take<R>(rows, x_.key_dim / 2);
    sin_ = shared.take<R>(rows, x_.key_dim / 2);
  }
  void fill_angles() const {
    if (base_ == 0) return;
    index at = 0;
    for (index n = 0; n < x_.sequences; ++n) {
      first_angle_(n) = at - whole(n).begin / x_.chunk;
      at += chunks_of(n);
    }
    executor_.parallel_for(x_.sequences, [&](index n, int) {
      const index first = whole(n).begin / x_.chunk;
      for (index i = 0; i < x_.key_dim / 2; ++i) {
        const double frequency = rotary_frequency(2 * i, x_.key_dim, base_);
        for (index c = first; c < first + chunks_of(n); ++c) {
          const double angle = static_cast<double>(c) * frequency;
          cos_(first_angle_(n) + c, i) = static_cast<R>(std::cos(angle));
          sin_(first_angle_(n) + c, i) = static_cast<R>(std::sin(angle));
        }
      }
    });
  }
  // By the angles of a chunk.
  void turn(R* row, index n, index chunk) const {
    if (base_ > 0) turn_halves(row, row, &cos_(first_angle_(n) + chunk, 0), &sin_(first_angle_(n) + chunk, 0), x_.key_dim / 2);
  }
  // By their negatives: the inverse, and the transpose.
  void turn_back(R* row, index n, index chunk) const {
    if (base_ == 0) return;
    const R *const c = &cos_(first_angle_(n) + chunk, 0), *const s = &sin_(first_angle_(n) + chunk, 0);
    const index half = x_.key_dim / 2;
    for_lanes<R>(half, [&](index i, auto lane) {
      const simd<R> first = get(row + i, lane), second = get(row + half + i, lane), cs = get(c + i, lane), sn = get(s + i, lane);
      put(row + i, first * cs + second * sn, lane);
      put(row + half + i, second * cs - first * sn, lane);
    });
  }

  // The pair before the token at a position where a piece begins: a chunk's start, or the call's first token.
  void begin_pair(const pair& w, index n, index h, index place) const {
    for (R* row : {w.key, w.value}) std::fill_n(row, lanes_, R(0));
    if (place % x_.chunk == 0) return;
    std::copy_n(&before_.key(n, h, 0), x_.key_dim, w.key);
    std::copy_n(&before_.value(n, h, 0), x_.key_dim, w.value);
  }
  // It takes up the token at a position.
  void advance(const pair& w, index n, index h, index place) const {
    const index b = batch(n), t = token(n, place);
    if (place % x_.chunk == 0)
      for (R* row : {w.key, w.value}) std::fill_n(row, lanes_, R(0));
    const R* const g = &in_.g(b, t, h, 0);
    const T* const k = &in_.k(b, t, h % x_.groups, 0);
    const T* const v = &in_.v(b, t, h, 0);
    // Rows of one head lie in different pages, which no hardware fetches ahead.
    fetch(in_.k, k, t);
    fetch(in_.v, v, t);
    fetch(in_.g, g, t);
    for_lanes<R>(x_.key_dim, [&](index i, auto lane) {
      const simd<R> take = -expm1_(get(g + i, lane)), keep = simd<R>(R(1)) - take;  // a weak gate's 1 - f has all its digits
      fma(keep, simd<R>::load(w.key + i), take * get(k + i, lane)).store(w.key + i);
      fma(keep, simd<R>::load(w.value + i), take * get(v + i, lane)).store(w.value + i);
    });
  }
  void turn_key(const pair& w, index n, index place) const {
    std::copy_n(w.key, lanes_, w.turned);
    turn(w.turned, n, place / x_.chunk);
  }
  // The scaled and turned query of a token, and its score with its own pair, which has taken the token up.
  R own_score(const pair& w, index n, index h, index place, R* q) const {
    const T* const from = &in_.q(batch(n), token(n, place), h % x_.groups, 0);
    fetch(in_.q, from, token(n, place));
    for_lanes<R>(x_.key_dim, [&](index i, auto lane) { (get(from + i, lane) * simd<R>(scale_)).store(q + i); });
    turn(q, n, place / x_.chunk);
    turn_key(w, n, place);
    simd<R> dot(R(0));
    for (index i = 0; i < lanes_; i += W) dot = fma(simd<R>::load(q + i), simd<R>::load(w.turned + i), dot);
    return lane_sum(dot);
  }

  cpu& executor_;
  const typename rat<T>::inputs in_;
  const rat_state<R>& before_;
  std::span<const index> cu_;
  const rat_extents x_;
  const R scale_;
  const double base_;
  const index lanes_, stride_;   // a row of the width in whole vectors, in whole panels
  const dense dense_{};
  index rows_ = 1, piece_ = 1;   // tokens of a block of rows, of a piece

 private:
  template <class View, class X>
  WEFT_INLINE void fetch(const View& v, const X* row, index t) const {
    constexpr index ahead = 6, line = 64 / static_cast<index>(sizeof(X));
    if (t + ahead >= x_.time) return;
    for (index i = 0; i < x_.key_dim; i += line) __builtin_prefetch(row + ahead * v.stride[1] + i);
  }

  view<index, 1> first_angle_;   // [N]: of chunk 0, were it there
  view<R, 2> cos_, sin_;         // [chunk, D / 2]
};

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
