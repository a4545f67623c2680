// Gradients of Aaren: one reverse scan a head of lambda, the gradient of (c, a) as later outputs and the final state see them.
//
//   lambda_a = d_o / c + w lambda_a,  lambda_c = -(d_o . o) / c + w lambda_c      (w: the next token's exp(m - m'))
//   d_v = e lambda_a,  d_s = e (lambda_a . v + lambda_c),  e = exp(s - m)
//
// No output depends on the maxima, which only scale; the state does: what its gradient asks of m beyond a d_a + c d_c goes to the
// score that is the maximum. Scores are computed again. O(T (K + V)) a head; the tape keeps the outputs and the start.
#pragma once
#include <vector>

#include "../../core/tape.hpp"
#include "aaren.hpp"

namespace weft {
inline namespace v1 {

template <class T>
struct aaren_record {
  using R = accumulate_t<T>;
  bool filled = false;               // not while a scan has begun and not ended
  std::array<index, 5> extents{};    // batch, time, heads, key dim, value dim
  std::vector<index> cu_seqlens;
  double scale = 1;
  aaren_state<R> before;
  array<R, 4> o;                     // [B, T, H, V]

  std::size_t bytes() const { return state_bytes(before) + array_bytes(o); }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

inline std::array<index, 5> aaren_extents(const attention_extents& x) { return {x.batch, x.time, x.heads, x.key_dim, x.value_dim}; }

template <class T>
class aaren_vjp_call {
  using M = aaren<T>;
  using R = accumulate_t<T>;

 public:
  aaren_vjp_call(cpu& executor, const M& mixer, const typename M::inputs& in, const aaren_record<T>& record, const typename M::cotangents& d_out,
                 aaren_state<R>& d_state, const typename M::gradients& d_in)
      : executor_(executor), in_(in), record_(record), d_out_(d_out), d_state_(d_state), d_in_(d_in), cu_(record.cu_seqlens), x_(check(mixer)),
        scale_(static_cast<R>(mixer.scale_for(x_.key_dim))), lanes_(round_up_to_lanes<R>(x_.value_dim)) {
    if (x_.time > 0) run();
    else if (!d_in_.q.null() && !executor_.rehearsing())
      for (index h = 0; h < x_.heads; ++h)
        for (index i = 0; i < x_.key_dim; ++i) d_in_.q.wide_view()(h, i) = R(0);
  }

 private:
  attention_extents check(const M& mixer) const {
    require(record_.filled || executor_.rehearsing(), errc::value, "tape: expected one filled by a scan of this mixer, got one whose scan did not end");
    const attention_extents x = check_aaren(mixer, in_, record_.before, {}, cu_, false);
    require(aaren_extents(x) == record_.extents && mixer.scale_for(x.key_dim) == record_.scale, errc::value, "tape: expected one of a scan over ",
            check::list(aaren_extents(x)), " (batch, time, heads, key dim, value dim) with scale ", mixer.scale_for(x.key_dim), ", got ",
            check::list(record_.extents), " with ", record_.scale);
    const std::array<index, 4> k{x.batch, x.time, x.heads, x.key_dim}, v{x.batch, x.time, x.heads, x.value_dim};
    d_out_.o.visit([&](const auto& o) { check::tensor("d_o", o, v, true, true); });
    require(d_state_.m.extent() == record_.before.m.extent() && d_state_.c.extent() == record_.before.c.extent() &&
                d_state_.a.extent() == record_.before.a.extent() && !d_state_.m.null(),
            errc::shape, "d_state: expected the extents of a state of ", x.sequences, " sequences, ", x.heads, " heads and width ", x.value_dim);
    check_gradients<M>(in_, d_out_, d_state_, d_in_, [&](auto i) {
      if constexpr (i == 0) return std::array<index, 2>{x.heads, x.key_dim};
      else return i == 1 ? k : v;
    });
    return x;
  }

  void run() {
    temporaries::scope shared(executor_.temporaries());
    const index key_lanes = round_up_to_lanes<R>(x_.key_dim);
    const auto weights = aaren_weights<T>(shared, x_);
    const view<R, 3> d_q = shared.take<R>(x_.sequences, x_.heads, key_lanes);
    const auto room = [&](arena& memory) { return memory.take<R>(2 * lanes_); };
    arena size;
    room(size);
    executor_.reserve(size.used());
    if (executor_.rehearsing()) return;
    weights.scale_queries(in_, scale_);
    executor_.parallel_for(x_.sequences * x_.heads, [&](index task, int worker) {
      arena memory(executor_.scratch(worker));
      head(weights, task / x_.heads, task % x_.heads, room(memory), &d_q(task / x_.heads, task % x_.heads, 0));
    });
    if (d_in_.q.null()) return;
    for (index h = 0; h < x_.heads; ++h)
      for (index i = 0; i < x_.key_dim; ++i) {
        R sum = 0;
        for (index n = 0; n < x_.sequences; ++n) sum += d_q(n, h, i);
        d_in_.q.wide_view()(h, i) = sum;
      }
  }

  void head(const aaren_weights<T>& w, index n, index h, R* lambda, R* d_q) const {
    const token_span t = tokens_of(x_, cu_, n);
    std::fill_n(d_q, round_up_to_lanes<R>(x_.key_dim), R(0));
    if (t.count() == 0) return;
    w.score(in_, t.batch, h, t.begin, t.end);
    R m = record_.before.m(n, h), c = record_.before.c(n, h);
    const index top = w.weigh(t, h, m, c);  // the token whose score is the maximum; before the first: the state's
    R* const d_o = lambda + lanes_;
    std::fill_n(lambda, 2 * lanes_, R(0));
    std::copy_n(&d_state_.a(n, h, 0), x_.value_dim, lambda);
    R lambda_c = d_state_.c(n, h), last = c;
    R beyond = d_state_.m(n, h) - last * lambda_c;
    for (index i = 0; i < x_.value_dim; ++i) beyond -= lambda[i] * last * record_.o(t.batch, t.end - 1, h, i);

    for (index s = t.end - 1; s >= t.begin; --s) {
      const R left = w.left(t.batch, h, s), right = w.right(t.batch, h, s), inverse = w.inverse(t.batch, h, s);
      simd<R> with_o(R(0)), with_v(R(0));
      if (!d_out_.o.null())
        d_out_.o.visit([&](const auto& view) { for_lanes<R>(x_.value_dim, [&](index i, auto lane) { get(&view(t.batch, s, h, i), lane).store(d_o + i); }); });
      for_lanes<R>(x_.value_dim, [&](index i, auto lane) {
        const simd<R> d = simd<R>::load(d_o + i), sum = fma(d, simd<R>(inverse), simd<R>::load(lambda + i));
        with_o = fma(d, get(&record_.o(t.batch, s, h, i), lane), with_o);
        with_v = fma(sum, get(&in_.v(t.batch, s, h, i), lane), with_v);
        sum.store(lambda + i);
      });
      lambda_c -= lane_sum(with_o) * inverse;
      if (!d_in_.v.null())
        d_in_.v.visit([&](const auto& to) {
          for_lanes<R>(x_.value_dim, [&](index i, auto lane) { put(&to(t.batch, s, h, i), simd<R>(right) * simd<R>::load(lambda + i), lane); });
        });
      const R d_s = right * (lane_sum(with_v) + lambda_c) + (s == top ? beyond : R(0));
      const simd<R> by(d_s * scale_), scaled(d_s);
      if (!d_in_.k.null())
        d_in_.k.visit([&](const auto& to) {
          for_lanes<R>(x_.key_dim, [&](index i, auto lane) { put(&to(t.batch, s, h, i), scaled * simd<R>::load(&w.query(h, i)), lane); });
        });
      if (!d_in_.q.null())
        for_lanes<R>(x_.key_dim, [&](index i, auto lane) { fma(by, get(&in_.k(t.batch, s, h, i), lane), simd<R>::load(d_q + i)).store(d_q + i); });
      for (index i = 0; i < lanes_; i += simd<R>::width) (simd<R>(left) * simd<R>::load(lambda + i)).store(lambda + i);
      lambda_c *= left;
    }
    const aaren_state<R>& start = record_.before;
    R d_m = top < t.begin ? beyond : R(0);
    d_m += lambda_c * start.c(n, h);
    for (index i = 0; i < x_.value_dim; ++i) d_m += lambda[i] * start.a(n, h, i);
    d_state_.m(n, h) = d_m;
    d_state_.c(n, h) = lambda_c;
    std::copy_n(lambda, x_.value_dim, &d_state_.a(n, h, 0));
  }

  cpu& executor_;
  const typename M::inputs& in_;
  const aaren_record<T>& record_;
  const typename M::cotangents& d_out_;
  aaren_state<R>& d_state_;
  const typename M::gradients& d_in_;
  std::span<const index> cu_;
  const attention_extents x_;
  const R scale_;
  const index lanes_;
};

}  // namespace detail

template <class T>
void run_record(cpu& executor, const aaren<T>& mixer, const typename aaren<T>::inputs& in, aaren_state<accumulate_t<T>>& state,
                const typename aaren<T>::outputs& out, tape& tape, std::span<const index> cu) {
  using R = accumulate_t<T>;
  const attention_extents x = check_aaren(mixer, in, state, out, cu);
  out.o.visit([&](const auto& o) { check::no_overlap("o", o, "v", in.v); });  // the gradients read it again
  auto& record = tape.template fill<aaren_record<T>>();
  record.filled = false;
  record.extents = detail::aaren_extents(x);
  record.cu_seqlens.assign(cu.begin(), cu.end());
  record.scale = mixer.scale_for(x.key_dim);
  keep(record.before, state);
  if (record.o.null() || record.o.extent() != std::array{x.batch, x.time, x.heads, x.value_dim}) record.o = array<R, 4>({x.batch, x.time, x.heads, x.value_dim});
  run_scan(executor, mixer, in, state, {.o = record.o}, cu);
  if (executor.rehearsing()) return;
  out.o.visit([&](const auto& o) {
    for_rows(executor, {x.batch, x.time, x.heads}, x.value_dim, [&](index b, index t, index h) {
      for_lanes<R>(x.value_dim, [&](index i, auto lane) { put(&o(b, t, h, i), get(&record.o(b, t, h, i), lane), lane); });
    });
  });
  record.filled = true;
}

template <class T>
void run_vjp(cpu& executor, const aaren<T>& mixer, const typename aaren<T>::inputs& in, const tape& tape, const typename aaren<T>::cotangents& d_out,
             aaren_state<accumulate_t<T>>& d_state, const typename aaren<T>::gradients& d_in) {
  detail::aaren_vjp_call<T>(executor, mixer, in, tape.template read<aaren_record<T>>(), d_out, d_state, d_in);
}

}  // namespace WEFT_ISA
}  // namespace weft
