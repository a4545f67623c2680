// RAT on the CPU: the attention kernel over the ends of finished chunks. A row of queries begins not as the empty set but as
// one element, its own token's running pair; the tokens of a chunk are to the kernel what the heads of a group are.
//
// A head's blocks of rows one after another leave the ends of their chunks as they go. Where heads are too few for the workers,
// the ends come first, piece by piece, and the recurrence (cheap beside the fold) runs again for the rows: the same numbers.
#pragma once
#include "../../core/verbs.hpp"
#include "../../hybrid/rat_check.hpp"
#include "../../math/rotary.hpp"
#include "attention_walk.hpp"
#include "rotary.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

template <class T>
class rat_call {
  using mixer_type = rat<T>;
  using R = accumulate_t<T>;
  using tile_type = attention_tile<R>;
  static constexpr index W = simd<R>::width, L = tile_type::panel;

 public:
  rat_call(cpu& executor, const mixer_type& mixer, const typename mixer_type::inputs& in, rat_state<R>& state, const typename mixer_type::outputs& out,
           std::span<const index> cu)
      : executor_(executor), in_(in), state_(state), out_(out), cu_(cu), x_(check_rat(mixer, in, state, out, cu)),
        scale_(static_cast<R>(mixer.scale_for(x_.key_dim))), base_(mixer.rope_base), lanes_(round_up_to_lanes<R>(x_.key_dim)) {
    if (x_.time > 0) run();
  }

 private:
  struct workspace {
    softmax_rows<R> rows;
    packed_keys<R> packed;
    plain_keys<R> plain;
    R *key, *value, *turned;  // the running pair, zeros behind its width; the key as it is scored
  };
  // Absolute positions of one sequence.
  struct piece {
    index begin, end;
  };

  void run() {
    temporaries::scope shared(executor_.temporaries());
    const index block = tile_type::block_rows(x_.key_dim, x_.key_dim);
    rows_ = std::max<index>(1, std::min(x_.chunk, block));
    if (x_.chunk <= block) rows_ = block / x_.chunk * x_.chunk;
    piece_ = std::max(rows_, x_.chunk);
    index angles = 0;
    for (index n = 0; n < x_.sequences; ++n) {
      const piece s = whole(n);
      if (s.begin < s.end) units_ = std::max(units_, (s.end - 1) / piece_ - s.begin / piece_ + 1);
      angles += chunks_of(n);
    }
    pair_ = shared.take<R>(x_.sequences, x_.heads, 2, lanes_);
    if (base_ > 0) {
      first_angle_ = shared.take<index>(x_.sequences);
      cos_ = shared.take<R>(angles, x_.key_dim / 2);
      sin_ = shared.take<R>(angles, x_.key_dim / 2);
    }
    arena room;
    place(room);
    executor_.reserve(room.used());
    if (executor_.rehearsing()) return;

    if (base_ > 0) fill_angles();
    if (x_.key_dim > 0) fold_tokens();
    for (index n = 0; n < x_.sequences; ++n) {
      const index held = state_.held(n) + tokens_of(x_, cu_, n).count();
      state_.chunks.length(n) += held / x_.chunk;
      state_.held(n) = held % x_.chunk;
    }
  }

  void fold_tokens() {
    const index heads = x_.sequences * x_.heads, workers = executor_.workers();
    const auto with = [&](index pieces, auto pass) {
      executor_.parallel_for(heads * pieces, [&](index task, int worker) {
        arena memory(executor_.scratch(worker));
        workspace w = place(memory);
        const index n = task / pieces / x_.heads, h = task / pieces % x_.heads;
        const piece s = whole(n);
        const index base = (s.begin / piece_ + task % pieces) * piece_;
        const piece part = pieces == 1 ? s : piece{std::max(s.begin, base), std::min(s.end, base + piece_)};
        if (part.begin < part.end) (this->*pass)(w, n, h, part);
      });
    };
    if (units_ == 1 || heads % workers == 0 || heads >= 4 * workers) {
      with(1, &rat_call::read<true>);
    } else {
      with(units_, &rat_call::find_ends);
      with(units_, &rat_call::read<false>);
    }
    for (index n = 0; n < x_.sequences; ++n) {
      const piece s = whole(n);
      if (s.begin == s.end) continue;
      for (index h = 0; h < x_.heads; ++h) {
        std::copy_n(&pair_(n, h, 0, 0), x_.key_dim, &state_.key(n, h, 0));
        std::copy_n(&pair_(n, h, 1, 0), x_.key_dim, &state_.value(n, h, 0));
      }
    }
  }

  piece whole(index n) const {
    const index begin = state_.chunks.length(n) * x_.chunk + state_.held(n);
    return {begin, begin + tokens_of(x_, cu_, n).count()};
  }
  // Chunks that the call's tokens of a sequence lie in.
  index chunks_of(index n) const {
    const piece s = whole(n);
    return s.begin < s.end ? (s.end - 1) / x_.chunk - s.begin / x_.chunk + 1 : 0;
  }

  workspace place(arena& memory) const {
    workspace w;
    w.rows.query_stride = lanes_;
    w.rows.value_stride = (x_.key_dim + L - 1) / L * L;
    const index most = std::max(tile_type::few, std::min(rows_, x_.time)), padded = (most + tile_type::rows - 1) / tile_type::rows * tile_type::rows;
    w.rows.place(memory, padded, std::min(padded, tile_type::strip));
    w.packed.place(memory, x_.key_dim, x_.key_dim);
    w.plain.place(memory, x_.key_dim, x_.key_dim);
    for (R** row : {&w.key, &w.value, &w.turned}) *row = memory.take<R>(lanes_);
    return w;
  }

  void fill_angles() {
    index at = 0;
    for (index n = 0; n < x_.sequences; ++n) {
      first_angle_(n) = at - whole(n).begin / x_.chunk;
      at += chunks_of(n);
    }
    const index half = x_.key_dim / 2;
    executor_.parallel_for(x_.sequences, [&](index n, int) {
      const index first = whole(n).begin / x_.chunk;
      for (index i = 0; i < half; ++i) {
        const double frequency = rotary_frequency(2 * i, x_.key_dim, base_);
        for (index c = first; c < first + chunks_of(n); ++c) {
          const double angle = static_cast<double>(c) * frequency;
          cos_(first_angle_(n) + c, i) = static_cast<R>(std::cos(angle));
          sin_(first_angle_(n) + c, i) = static_cast<R>(std::sin(angle));
        }
      }
    });
  }
  void turn(R* row, index n, index chunk) const {
    if (base_ > 0) turn_halves(row, row, &cos_(first_angle_(n) + chunk, 0), &sin_(first_angle_(n) + chunk, 0), x_.key_dim / 2);
  }

  index token(index n, index place) const { return tokens_of(x_, cu_, n).begin + place - whole(n).begin; }
  index batch(index n) const { return tokens_of(x_, cu_, n).batch; }

  // The pair before the token at a position where a piece begins.
  void begin_pair(workspace& w, index n, index h, index place) const {
    for (R* row : {w.key, w.value}) std::fill_n(row, lanes_, R(0));
    if (place % x_.chunk == 0) return;  // else it is the call's first token
    std::copy_n(&state_.key(n, h, 0), x_.key_dim, w.key);
    std::copy_n(&state_.value(n, h, 0), x_.key_dim, w.value);
  }
  // The pair takes up the token at a position, which is then scored by `turned`.
  void advance(workspace& w, index n, index h, index place) const {
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
  template <class View, class X>
  WEFT_INLINE void fetch(const View& v, const X* row, index t) const {
    constexpr index ahead = 6, line = 64 / static_cast<index>(sizeof(X));
    if (t + ahead >= x_.time) return;
    for (index i = 0; i < x_.key_dim; i += line) __builtin_prefetch(row + ahead * v.stride[1] + i);
  }
  void turn_key(workspace& w, index n, index place) const {
    std::copy_n(w.key, lanes_, w.turned);
    turn(w.turned, n, place / x_.chunk);
  }

  // What a token leaves behind: its chunk's end in the state, the call's last pair beside it. The key is turned by then.
  void leave(const workspace& w, index n, index h, index place) {
    if (place % x_.chunk == x_.chunk - 1) {
      std::copy_n(w.turned, x_.key_dim, &state_.chunks.keys(n, h, place / x_.chunk, 0));
      std::copy_n(w.value, x_.key_dim, &state_.chunks.values(n, h, place / x_.chunk, 0));
    }
    if (place != whole(n).end - 1) return;
    std::copy_n(w.key, lanes_, &pair_(n, h, 0, 0));
    std::copy_n(w.value, lanes_, &pair_(n, h, 1, 0));
  }

  void find_ends(workspace& w, index n, index h, piece p) {
    begin_pair(w, n, h, p.begin);
    for (index place = p.begin; place < p.end; ++place) {
      advance(w, n, h, place);
      if (place % x_.chunk == x_.chunk - 1) turn_key(w, n, place);
      leave(w, n, h, place);
    }
  }

  template <bool LeavesEnds>
  void read(workspace& w, index n, index h, piece p) {
    begin_pair(w, n, h, p.begin);
    for (index at = p.begin, next; at < p.end; at = next) {
      // Whole chunks, or a part of one: rows in step with the chunks.
      next = std::min(p.end, at + rows_);
      if (at % x_.chunk != 0 || x_.chunk > rows_) next = std::min(next, (at / x_.chunk + 1) * x_.chunk);
      const index count = next - at, padded = (count + tile_type::rows - 1) / tile_type::rows * tile_type::rows;
      const bool few = count <= tile_type::few;
      w.rows.value_stride = few ? lanes_ : (x_.key_dim + L - 1) / L * L;
      w.rows.clear(padded);
      for (index r = 0; r < count; ++r) {
        begin_row(w, n, h, r, at + r);
        if (LeavesEnds) leave(w, n, h, at + r);
      }
      std::fill_n(w.rows.q + count * lanes_, (padded - count) * lanes_, R(0));

      const attention_fold<dense, R> fold{dense_, n, h, at / x_.chunk - 1, x_.chunk, (whole(n).end - 1) / x_.chunk, true, R(0)};
      const key_source<R> keys = source(n, h, fold.keys);
      fold.cover(0, count, [&](key_range range) {
        if (few) fold_range(fold, w.rows, count, w.plain, keys, range);
        else fold_range(fold, w.rows, count, w.packed, keys, range);
      });
      for (index r = 0; r < count; ++r) finish(w, n, h, r, at + r);
    }
  }

  // A row's query, and the element that its own token is.
  void begin_row(workspace& w, index n, index h, index r, index place) const {
    R* const q = w.rows.q + r * lanes_;
    const T* const from = &in_.q(batch(n), token(n, place), h % x_.groups, 0);
    fetch(in_.q, from, token(n, place));
    for_lanes<R>(x_.key_dim, [&](index i, auto lane) { (get(from + i, lane) * simd<R>(scale_)).store(q + i); });
    turn(q, n, place / x_.chunk);
    advance(w, n, h, place);
    turn_key(w, n, place);
    simd<R> dot(R(0));
    for (index i = 0; i < lanes_; i += W) dot = fma(simd<R>::load(q + i), simd<R>::load(w.turned + i), dot);
    const softmax_weights<R> own(-std::numeric_limits<R>::infinity(), lane_sum(dot));
    w.rows.m[r] = own.m;
    w.rows.l[r * W] = own.right;
    for (index i = 0; i < lanes_; i += W) (simd<R>(own.right) * simd<R>::load(w.value + i)).store(w.rows.acc + r * w.rows.value_stride + i);
  }

  void finish(const workspace& w, index n, index h, index r, index place) const {
    const softmax_state<R> e = w.rows.element(r);
    const simd<R> inverse(e.l == R(0) ? R(0) : R(1) / e.l);
    const R* const acc = w.rows.acc + r * w.rows.value_stride;
    out_.o.visit([&](const auto& o) {
      if (x_.key_dim == 0) return;
      auto* const to = &o(batch(n), token(n, place), h, 0);
      for_lanes<R>(x_.key_dim, [&](index i, auto lane) { put(to + i, simd<R>::load(acc + i) * inverse, lane); });
    });
  }

  key_source<R> source(index n, index h, index count) const {
    const index slots = state_.chunks.capacity(), first = (n * x_.heads + h) * slots;
    key_source<R> s;
    s.slots = cache_slots(slots, retained_keys{});
    s.cache_k = state_.chunks.keys.data() + first * x_.key_dim;
    s.cache_v = state_.chunks.values.data() + first * x_.key_dim;
    s.key_dim = s.value_dim = x_.key_dim;
    s.cached = s.end = count;
    return s;
  }

  cpu& executor_;
  const typename mixer_type::inputs in_;
  rat_state<R>& state_;
  const typename mixer_type::outputs out_;
  std::span<const index> cu_;
  const rat_extents x_;
  const R scale_;
  const double base_;
  const index lanes_;
  const dense dense_{};
  index rows_ = 0, piece_ = 0, units_ = 0;  // tokens of a block of rows, of a piece; pieces of the longest sequence
  view<R, 4> pair_;                         // [N, H, key and value, lanes]: the running pairs after the call
  view<index, 1> first_angle_;              // [N]: of chunk 0, were it there
  view<R, 2> cos_, sin_;                    // [chunk, D / 2]
};

}  // namespace detail

template <class T>
void run_scan(cpu& executor, const rat<T>& mixer, const typename rat<T>::inputs& in, rat_state<accumulate_t<T>>& state, const typename rat<T>::outputs& out,
              std::span<const index> cu) {
  detail::rat_call<T>(executor, mixer, in, state, out, cu);
}

template <class T>
void run_step(cpu& executor, const rat<T>& mixer, const typename rat<T>::inputs& in, rat_state<accumulate_t<T>>& state, const typename rat<T>::outputs& out) {
  require(in.q.null() || in.q.extent[1] == 1, errc::shape, "q: expected one token a step, got ", in.q.null() ? 0 : in.q.extent[1]);
  run_scan(executor, mixer, in, state, out, {});
}

}  // namespace WEFT_ISA
}  // namespace weft
