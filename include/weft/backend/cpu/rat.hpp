// RAT on the CPU: the attention kernel over the ends of finished chunks. A row of queries begins not as the empty set but as
// one element, its own token's running pair; the tokens of a chunk are to the kernel what the heads of a group are.
//
// A head's blocks of rows one after another leave the ends of their chunks as they go. Where heads are too few for the workers,
// the ends come first, piece by piece, and the recurrence (cheap beside the fold) runs again for the rows: the same numbers.
#pragma once
#include "rat_tokens.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

template <class T>
class rat_call : rat_tokens<T> {
  using mixer_type = rat<T>;
  using tokens = rat_tokens<T>;
  using typename tokens::R;
  using typename tokens::pair;
  using typename tokens::piece;
  using typename tokens::tile_type;
  using tokens::executor_, tokens::before_, tokens::cu_, tokens::x_, tokens::lanes_, tokens::stride_, tokens::rows_, tokens::piece_, tokens::whole;

 public:
  // lse [B, T, H]: null, or where the logarithms of the denominators go.
  rat_call(cpu& executor, const mixer_type& mixer, const typename mixer_type::inputs& in, rat_state<R>& state, const typename mixer_type::outputs& out,
           std::span<const index> cu, const view<R, 3>& lse = {})
      : tokens(executor, mixer, in, state, cu, check_rat(mixer, in, state, out, cu)), state_(state), out_(out), lse_(lse) {
    if (x_.time > 0) run();
  }

 private:
  struct workspace {
    softmax_rows<R> rows;
    packed_keys<R> packed;
    plain_keys<R> plain;
    pair running;
  };

  void run() {
    temporaries::scope shared(executor_.temporaries());
    index pieces = 0;
    for (index n = 0; n < x_.sequences; ++n)
      if (const piece s = whole(n); s.begin < s.end) pieces = std::max(pieces, (s.end - 1) / piece_ - s.begin / piece_ + 1);
    pair_ = shared.take<R>(x_.sequences, x_.heads, 2, lanes_);
    this->take_angles(shared);
    arena room;
    place(room);
    executor_.reserve(room.used());
    if (executor_.rehearsing()) return;

    this->fill_angles();
    if (x_.key_dim > 0) fold_tokens(pieces);
    for (index n = 0; n < x_.sequences; ++n) {
      const index held = state_.held(n) + tokens_of(x_, cu_, n).count();
      state_.chunks.length(n) += held / x_.chunk;
      state_.held(n) = held % x_.chunk;
    }
  }

  void fold_tokens(index pieces) {
    const index heads = x_.sequences * x_.heads, workers = executor_.workers();
    const auto with = [&](index count, auto pass) {
      executor_.parallel_for(heads * count, [&](index task, int worker) {
        arena memory(executor_.scratch(worker));
        workspace w = place(memory);
        const index n = task / count / x_.heads, h = task / count % x_.heads;
        const piece s = whole(n);
        const index base = (s.begin / piece_ + task % count) * piece_;
        const piece part = count == 1 ? s : piece{std::max(s.begin, base), std::min(s.end, base + piece_)};
        if (part.begin < part.end) (this->*pass)(w, n, h, part);
      });
    };
    if (pieces == 1 || heads % workers == 0 || heads >= 4 * workers) {
      with(1, &rat_call::read<true>);
    } else {
      with(pieces, &rat_call::find_ends);
      with(pieces, &rat_call::read<false>);
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

  workspace place(arena& memory) const {
    workspace w;
    w.rows.query_stride = lanes_;
    w.rows.value_stride = stride_;
    const index most = std::max(tile_type::few, std::min(rows_, x_.time)), padded = (most + tile_type::rows - 1) / tile_type::rows * tile_type::rows;
    w.rows.place(memory, padded, std::min(padded, tile_type::strip));
    w.packed.place(memory, x_.key_dim, x_.key_dim);
    w.plain.place(memory, x_.key_dim, x_.key_dim);
    for (R** row : {&w.running.key, &w.running.value, &w.running.turned}) *row = memory.take<R>(lanes_);
    return w;
  }

  // What a token leaves behind: its chunk's end in the state, the call's last pair beside it. The key is turned by then.
  void leave(const pair& w, index n, index h, index place) {
    if (place % x_.chunk == x_.chunk - 1) {
      std::copy_n(w.turned, x_.key_dim, &state_.chunks.keys(n, h, place / x_.chunk, 0));
      std::copy_n(w.value, x_.key_dim, &state_.chunks.values(n, h, place / x_.chunk, 0));
    }
    if (place != whole(n).end - 1) return;
    std::copy_n(w.key, lanes_, &pair_(n, h, 0, 0));
    std::copy_n(w.value, lanes_, &pair_(n, h, 1, 0));
  }

  void find_ends(workspace& w, index n, index h, piece p) {
    this->begin_pair(w.running, n, h, p.begin);
    for (index place = p.begin; place < p.end; ++place) {
      this->advance(w.running, n, h, place);
      if (place % x_.chunk == x_.chunk - 1) this->turn_key(w.running, n, place);
      leave(w.running, n, h, place);
    }
  }

  template <bool LeavesEnds>
  void read(workspace& w, index n, index h, piece p) {
    this->begin_pair(w.running, n, h, p.begin);
    for (index at = p.begin, next; at < p.end; at = next) {
      next = this->end_of_block(at, p.end);
      const index count = next - at, padded = (count + tile_type::rows - 1) / tile_type::rows * tile_type::rows;
      const bool few = count <= tile_type::few;
      w.rows.value_stride = few ? lanes_ : stride_;
      w.rows.clear(padded);
      for (index r = 0; r < count; ++r) {
        begin_row(w, n, h, r, at + r);
        if (LeavesEnds) leave(w.running, n, h, at + r);
      }
      std::fill_n(w.rows.q + count * lanes_, (padded - count) * lanes_, R(0));
      const auto fold = this->fold_of(n, h, at);
      const key_source<R> keys = this->source(state_.chunks, n, h, fold.keys);
      fold.cover(0, count, [&](key_range range) {
        if (few) fold_range(fold, w.rows, count, w.plain, keys, range);
        else fold_range(fold, w.rows, count, w.packed, keys, range);
      });
      for (index r = 0; r < count; ++r) finish(w, n, h, r, at + r);
    }
  }

  // A row's query, and the element that its own token is.
  void begin_row(workspace& w, index n, index h, index r, index place) const {
    this->advance(w.running, n, h, place);
    const softmax_weights<R> own(-std::numeric_limits<R>::infinity(), this->own_score(w.running, n, h, place, w.rows.q + r * lanes_));
    w.rows.m[r] = own.m;
    w.rows.l[r * simd<R>::width] = own.right;
    for (index i = 0; i < lanes_; i += simd<R>::width)
      (simd<R>(own.right) * simd<R>::load(w.running.value + i)).store(w.rows.acc + r * w.rows.value_stride + i);
  }

  void finish(const workspace& w, index n, index h, index r, index place) const {
    const softmax_state<R> e = w.rows.element(r);
    const simd<R> inverse(e.l == R(0) ? R(0) : R(1) / e.l);
    const R* const acc = w.rows.acc + r * w.rows.value_stride;
    const index b = this->batch(n), t = this->token(n, place);
    out_.o.visit([&](const auto& o) {
      auto* const to = &o(b, t, h, 0);
      for_lanes<R>(x_.key_dim, [&](index i, auto lane) { put(to + i, simd<R>::load(acc + i) * inverse, lane); });
    });
    if (!lse_.null()) lse_(b, t, h) = e.log_sum();
  }

  rat_state<R>& state_;
  const typename mixer_type::outputs out_;
  const view<R, 3> lse_;
  view<R, 4> pair_;  // [N, H, key and value, lanes]: the running pairs after the call
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
