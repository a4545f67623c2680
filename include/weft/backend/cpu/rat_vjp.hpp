// Gradients of RAT: attention backwards over the ends of chunks, each row's own element by itself, then the recurrence of every
// chunk in reverse, where the ends' gradients join.
//
//   lambda_t = d(k~_t) + f_{t+1} lambda_{t+1} within a chunk,  d_k = (1 - f) lambda,  d_f = lambda (k~_{t-1} - k_t);  v~ alike
//
// A task is a head. Extra memory: a worker keeps its head's pairs and their gradients, 4 T D numbers; the gradients of q and k
// before heads that share them are summed, 2 B T H D. The tape keeps the outputs, the ends and the start.
#pragma once
#include <vector>

#include "../../core/tape.hpp"
#include "attention_vjp_fold.hpp"
#include "rat.hpp"

namespace weft {
inline namespace v1 {

template <class T>
struct rat_record {
  using R = accumulate_t<T>;
  bool filled = false;               // not while a scan has begun and not ended
  std::array<index, 5> extents{};    // batch, time, heads that are shared, heads, width
  std::vector<index> cu_seqlens;
  rat<T> mixer;
  rat_state<R> before;
  key_value_cache<R> ends;           // of the chunks before and within the scan
  array<R, 4> o;                     // [B, T, H, D]
  array<R, 3> lse;                   // [B, T, H]

  std::size_t bytes() const { return state_bytes(before) + state_bytes(ends) + array_bytes(o, lse); }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

inline std::array<index, 5> rat_record_extents(const rat_extents& x) { return {x.batch, x.time, x.groups, x.heads, x.key_dim}; }

template <class T>
rat_extents check_rat_vjp(const rat<T>& mixer, const typename rat<T>::inputs& in, const rat_record<T>& record, const typename rat<T>::cotangents& d_out,
                          const rat_gradient<accumulate_t<T>>& d_state, const typename rat<T>::gradients& d_in, bool rehearsing) {
  require(record.filled || rehearsing, errc::value, "tape: expected one filled by a scan of this mixer, got one whose scan did not end");
  const rat_extents x = check_rat(mixer, in, record.before, {}, record.cu_seqlens, false);
  require(rat_record_extents(x) == record.extents, errc::value, "tape: expected one of a scan over ", check::list(rat_record_extents(x)),
          " (batch, time, heads of q, heads, width), got ", check::list(record.extents));
  require(mixer.chunk_size == record.mixer.chunk_size && mixer.rope_base == record.mixer.rope_base && mixer.scale_for(x.key_dim) == record.mixer.scale_for(x.key_dim),
          errc::value, "tape: expected one of a scan with the mixer's chunk_size, rope_base and scale, got one with others");
  const std::array<index, 4> shared{x.batch, x.time, x.groups, x.key_dim}, own{x.batch, x.time, x.heads, x.key_dim};
  d_out.o.visit([&](const auto& o) { check::tensor("d_o", o, own, true, true); });
  const rat_state<accumulate_t<T>>& of = record.before;
  require(d_state.chunk_keys.extent() == of.chunks.keys.extent() && d_state.chunk_values.extent() == of.chunks.keys.extent() &&
              d_state.key.extent() == of.key.extent() && d_state.value.extent() == of.key.extent() && !d_state.key.null(),
          errc::shape, "d_state: expected a gradient made from the scan's state, ", check::list(of.chunks.keys.extent()), ", got ",
          check::list(d_state.chunk_keys.extent()));
  check_gradients<rat<T>>(in, d_out, d_state, d_in, [&](auto i) { return i < 2 ? shared : own; });
  return x;
}

template <class T>
class rat_vjp_call : rat_tokens<T> {
  using tokens = rat_tokens<T>;
  using typename tokens::R;
  using typename tokens::pair;
  using typename tokens::piece;
  using typename tokens::tile_type;
  using tokens::executor_, tokens::in_, tokens::before_, tokens::cu_, tokens::x_, tokens::lanes_, tokens::stride_, tokens::scale_, tokens::whole;
  static constexpr index W = simd<R>::width;

 public:
  rat_vjp_call(cpu& executor, const rat<T>& mixer, const typename rat<T>::inputs& in, const rat_record<T>& record, const typename rat<T>::cotangents& d_out,
               rat_gradient<R>& d_state, const typename rat<T>::gradients& d_in)
      : tokens(executor, mixer, in, record.before, record.cu_seqlens, check_rat_vjp(mixer, in, record, d_out, d_state, d_in, executor.rehearsing())), record_(record), d_out_(d_out),
        d_state_(d_state), d_in_(d_in) {
    if (x_.time > 0 && x_.key_dim > 0) run();
  }

 private:
  struct workspace {
    vjp_rows<R> rows;
    vjp_keys<R> keys;
    key_sums<R> ends;                // [chunks][stride]: gradients of all ends that the call's rows may read
    R *key, *value, *d_key, *d_value;  // [T][lanes]: every token's pair, and its gradient by its own row
    R *lambda_key, *lambda_value, *turned;
  };

  void run() {
    temporaries::scope shared(executor_.temporaries());
    for (index n = 0; n < x_.sequences; ++n) {
      const piece s = whole(n);
      longest_ = std::max(longest_, s.end - s.begin);
      ends_ = std::max(ends_, s.end / x_.chunk);
    }
    this->take_angles(shared);
    if (!d_in_.q.null()) d_q_ = shared.take<R>(x_.batch, x_.time, x_.heads, lanes_);
    if (!d_in_.k.null()) d_k_ = shared.take<R>(x_.batch, x_.time, x_.heads, lanes_);
    arena room;
    place(room);
    executor_.reserve(room.used());
    if (executor_.rehearsing()) return;

    this->fill_angles();
    executor_.parallel_for(x_.sequences * x_.heads, [&](index task, int worker) {
      arena memory(executor_.scratch(worker));
      workspace w = place(memory);
      const index n = task / x_.heads, h = task % x_.heads;
      if (const piece s = whole(n); s.begin < s.end) {
        read(w, n, h, s);
        recur(w, n, h, s);
      }
    });
    for (const auto& [rows, gradient] : {std::pair{d_q_, &d_in_.q}, std::pair{d_k_, &d_in_.k}})
      if (!rows.null()) sum_heads(rows, *gradient);
  }

  workspace place(arena& memory) const {
    workspace w;
    const index rows = (std::min(this->rows_, longest_) + tile_type::rows - 1) / tile_type::rows * tile_type::rows;
    w.rows.key_stride = w.rows.value_stride = stride_;
    w.rows.place(memory, rows);
    w.keys.place(memory, x_.key_dim, x_.key_dim);
    w.ends = {memory.take<R>(ends_ * stride_), memory.take<R>(ends_ * stride_)};
    for (R** row : {&w.key, &w.value, &w.d_key, &w.d_value}) *row = memory.take<R>(longest_ * lanes_);
    for (R** row : {&w.lambda_key, &w.lambda_value, &w.turned}) *row = memory.take<R>(lanes_);
    return w;
  }

  // The rows forwards again, block by block: gradients of queries, of the ends, and of every token's own pair.
  void read(workspace& w, index n, index h, piece s) const {
    std::fill_n(w.rows.ones, tile_type::keys, R(1));
    std::fill_n(w.ends.d_k, s.end / x_.chunk * stride_, R(0));
    std::fill_n(w.ends.d_v, s.end / x_.chunk * stride_, R(0));
    for (index at = s.begin, next; at < s.end; at = next) {
      next = this->end_of_block(at, s.end);
      const index count = next - at, padded = (count + tile_type::rows - 1) / tile_type::rows * tile_type::rows;
      for (R* rows : {w.rows.scores.q, w.rows.d_q, w.rows.d_o}) std::fill_n(rows, padded * stride_, R(0));
      simd<R> zeros(R(0));
      for (index r = 0; r < count; ++r) zeros = zeros + own_row(w, n, h, r, at + r, s);
      w.rows.finite = lane_sum(zeros) == R(0);
      const attention_vjp_fold<dense, R> fold{this->fold_of(n, h, at), true};
      const key_source<R> keys = this->source(record_.ends, n, h, fold.reads.keys);
      fold.reads.cover(0, count, [&](key_range range) {
        for (index base = range.begin / tile_type::keys * tile_type::keys; base < range.end; base += tile_type::keys) {
          const index lo = std::max(range.begin, base), hi = std::min(range.end, base + tile_type::keys);
          w.keys.pack(keys, base, lo, hi);
          fold(w.rows, count, w.keys, {w.ends.d_k + base * stride_, w.ends.d_v + base * stride_}, base, lo - base, hi - base);
        }
      });
      if (d_q_.null()) continue;
      for (index r = 0; r < count; ++r) {
        R* const d_q = w.rows.d_q + r * stride_;
        this->turn_back(d_q, n, (at + r) / x_.chunk);
        for (index i = 0; i < lanes_; i += W)
          (simd<R>(scale_) * simd<R>::load(d_q + i)).store(&d_q_(this->batch(n), this->token(n, at + r), h, 0) + i);
      }
    }
  }

  // A row's operands, and what its own element gives to query and pair. Returns zero times everything.
  simd<R> own_row(workspace& w, index n, index h, index r, index place, piece s) const {
    const index b = this->batch(n), t = this->token(n, place), i0 = (place - s.begin) * lanes_;
    const pair own{w.key + i0, w.value + i0, w.turned};
    if (place == s.begin) {
      this->begin_pair(own, n, h, place);
    } else {
      std::copy_n(own.key - lanes_, lanes_, own.key);
      std::copy_n(own.value - lanes_, lanes_, own.value);
    }
    this->advance(own, n, h, place);
    R* const q = w.rows.scores.q + r * stride_;
    R* const d_o = w.rows.d_o + r * stride_;
    const R score = this->own_score(own, n, h, place, q), lse = record_.lse(b, t, h);
    if (!d_out_.o.null())
      d_out_.o.visit([&](const auto& o) { for_lanes<R>(x_.key_dim, [&](index i, auto lane) { get(&o(b, t, h, i), lane).store(d_o + i); }); });
    simd<R> with_o(R(0)), with_v(R(0)), zeros(R(0));
    for_lanes<R>(x_.key_dim, [&](index i, auto lane) {
      const simd<R> d = simd<R>::load(d_o + i);
      with_o = fma(d, get(&record_.o(b, t, h, i), lane), with_o);
      with_v = fma(d, simd<R>::load(own.value + i), with_v);
      zeros = fma(simd<R>(R(0)), d, fma(simd<R>(R(0)), simd<R>::load(q + i), zeros));
    });
    w.rows.lse[r] = lse == -std::numeric_limits<R>::infinity() ? R(0) : lse;
    w.rows.delta[r] = lane_sum(with_o);
    const R p = std::exp(score - w.rows.lse[r]), d_s = p * (lane_sum(with_v) - w.rows.delta[r]);
    R* const d_key = w.d_key + i0;
    for (index i = 0; i < lanes_; i += W) {
      (simd<R>(p) * simd<R>::load(d_o + i)).store(w.d_value + i0 + i);
      (simd<R>(d_s) * simd<R>::load(q + i)).store(d_key + i);
      (simd<R>(d_s) * simd<R>::load(w.turned + i)).store(w.rows.d_q + r * stride_ + i);
    }
    this->turn_back(d_key, n, place / x_.chunk);
    return zeros;
  }

  // The chunks' recurrences in reverse, and the gradient of the state before the scan.
  void recur(workspace& w, index n, index h, piece s) const {
    R *const lk = w.lambda_key, *const lv = w.lambda_value;
    for (R* row : {lk, lv}) std::fill_n(row, lanes_, R(0));
    std::copy_n(&d_state_.key(n, h, 0), x_.key_dim, lk);
    std::copy_n(&d_state_.value(n, h, 0), x_.key_dim, lv);
    const index b = this->batch(n);
    for (index place = s.end - 1; place >= s.begin; --place) {
      const index t = this->token(n, place), chunk = place / x_.chunk, i0 = (place - s.begin) * lanes_;
      const auto add = [&](R* to, const R* from, index width) {
        for_lanes<R>(width, [&](index i, auto lane) { (simd<R>::load(to + i) + get(from + i, lane)).store(to + i); });
      };
      if (place % x_.chunk == x_.chunk - 1) {
        std::fill_n(w.turned, lanes_, R(0));
        add(w.turned, w.ends.d_k + chunk * stride_, x_.key_dim);
        add(w.turned, &d_state_.chunk_keys(n, h, chunk, 0), x_.key_dim);
        this->turn_back(w.turned, n, chunk);
        add(lk, w.turned, x_.key_dim);
        add(lv, w.ends.d_v + chunk * stride_, x_.key_dim);
        add(lv, &d_state_.chunk_values(n, h, chunk, 0), x_.key_dim);
      }
      add(lk, w.d_key + i0, x_.key_dim);
      add(lv, w.d_value + i0, x_.key_dim);

      const bool fresh = place % x_.chunk == 0, first = place == s.begin;
      const R* const key = fresh ? nullptr : first ? &before_.key(n, h, 0) : w.key + i0 - lanes_;
      const R* const value = fresh ? nullptr : first ? &before_.value(n, h, 0) : w.value + i0 - lanes_;
      for_lanes<R>(x_.key_dim, [&](index i, auto lane) {
        const simd<R> take = -expm1_(get(&in_.g(b, t, h, i), lane)), keep = simd<R>(R(1)) - take, k = simd<R>::load(lk + i), v = simd<R>::load(lv + i);
        const simd<R> nothing(R(0)), key_before = key ? get(key + i, lane) : nothing, value_before = value ? get(value + i, lane) : nothing;
        if (!d_in_.g.null())
          d_in_.g.visit([&](const auto& to) {
            put(&to(b, t, h, i), keep * fma(k, key_before - get(&in_.k(b, t, h % x_.groups, i), lane), v * (value_before - get(&in_.v(b, t, h, i), lane))), lane);
          });
        if (!d_in_.v.null()) d_in_.v.visit([&](const auto& to) { put(&to(b, t, h, i), take * v, lane); });
        if (!d_k_.null()) put(&d_k_(b, t, h, i), take * k, lane);
        const simd<R> on = fresh ? nothing : keep;
        put(lk + i, fresh ? nothing : on * k, lane);
        put(lv + i, fresh ? nothing : on * v, lane);
      });
    }
    std::copy_n(lk, x_.key_dim, &d_state_.key(n, h, 0));
    std::copy_n(lv, x_.key_dim, &d_state_.value(n, h, 0));
    // The ends that the state brought; those of the scan were not there before it.
    const index brought = before_.chunks.length(n);
    for (index c = 0; c < s.end / x_.chunk; ++c)
      for (index i = 0; i < x_.key_dim; ++i) {
        R &d_key = d_state_.chunk_keys(n, h, c, i), &d_value = d_state_.chunk_values(n, h, c, i);
        d_key = c < brought ? d_key + w.ends.d_k[c * stride_ + i] : R(0);
        d_value = c < brought ? d_value + w.ends.d_v[c * stride_ + i] : R(0);
      }
  }

  // Over the heads that share one, in order.
  template <class Gradient>
  void sum_heads(const view<R, 4>& rows, const Gradient& gradient) {
    gradient.visit([&](const auto& to) {
      for_rows(executor_, {x_.batch, x_.time, x_.groups}, x_.key_dim, [&](index b, index t, index group) {
        for_lanes<R>(x_.key_dim, [&](index i, auto lane) {
          simd<R> sum(R(0));
          for (index h = group; h < x_.heads; h += x_.groups) sum += simd<R>::load(&rows(b, t, h, i));
          put(&to(b, t, group, i), sum, lane);
        });
      });
    });
  }

  const rat_record<T>& record_;
  const typename rat<T>::cotangents& d_out_;
  rat_gradient<R>& d_state_;
  const typename rat<T>::gradients& d_in_;
  index longest_ = 0, ends_ = 0;
  view<R, 4> d_q_, d_k_;  // [B, T, H, lanes]
};

}  // namespace detail

template <class T>
void run_record(cpu& executor, const rat<T>& mixer, const typename rat<T>::inputs& in, rat_state<accumulate_t<T>>& state, const typename rat<T>::outputs& out,
                tape& tape, std::span<const index> cu) {
  using R = accumulate_t<T>;
  const rat_extents x = check_rat(mixer, in, state, out, cu);
  out.o.visit([&](const auto& o) {
    detail::each_named_input<rat<T>>(in, [&](std::string_view name, const auto& v) { check::no_overlap("o", o, name, v); });  // the gradients read it again
  });
  auto& record = tape.template fill<rat_record<T>>();
  record.filled = false;
  record.extents = detail::rat_record_extents(x);
  record.cu_seqlens.assign(cu.begin(), cu.end());
  record.mixer = mixer;
  keep(record.before, state);
  const std::array<index, 4> results{x.batch, x.time, x.heads, x.key_dim};
  if (record.o.null() || record.o.extent() != results) record.o = array<R, 4>(results);
  if (record.lse.null() || record.lse.extent() != std::array{x.batch, x.time, x.heads}) record.lse = array<R, 3>({x.batch, x.time, x.heads});
  keep(record.ends, state.chunks);  // as many slots
  detail::rat_call<T>(executor, mixer, in, state, {.o = record.o}, cu, record.lse);
  if (executor.rehearsing()) return;
  std::copy_n(state.chunks.keys.data(), state.chunks.keys.size(), record.ends.keys.data());
  std::copy_n(state.chunks.values.data(), state.chunks.values.size(), record.ends.values.data());
  out.o.visit([&](const auto& o) {
    for_rows(executor, {x.batch, x.time, x.heads}, x.key_dim, [&](index b, index t, index h) {
      for_lanes<R>(x.key_dim, [&](index i, auto lane) { put(&o(b, t, h, i), get(&record.o(b, t, h, i), lane), lane); });
    });
  });
  record.filled = true;
}

template <class T>
void run_vjp(cpu& executor, const rat<T>& mixer, const typename rat<T>::inputs& in, const tape& tape, const typename rat<T>::cotangents& d_out,
             rat_gradient<accumulate_t<T>>& d_state, const typename rat<T>::gradients& d_in) {
  detail::rat_vjp_call<T>(executor, mixer, in, tape.template read<rat_record<T>>(), d_out, d_state, d_in);
}

}  // namespace WEFT_ISA
}  // namespace weft
